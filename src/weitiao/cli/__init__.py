"""The command `weitiao`: a command is a file in this folder, found by name and imported when it is typed."""

from __future__ import annotations

import errno
import sys
import threading
from types import TracebackType

import click

from ..core.errors import Problem, ResourceError, WeitiaoError
from ._commands import commands
from ._environment import prepare_environment


def main() -> None:
    """Run the command line and exit: 0 when done, else a code of `weitiao.core.errors.EXIT_CODES`."""
    sys.excepthook = _report_fault
    prepare_environment()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; an error a person can mend is printed, others raised."""
    try:
        result = commands.main(arguments, prog_name="weitiao", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except WeitiaoError as error:
        return _told(error)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _told(_disk_is_full(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _told(_memory_is_full(error))
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped by Ctrl-C", err=True)
        return 130
    return result if isinstance(result, int) else 0


def _told(error: WeitiaoError) -> int:
    """Print an error and return its exit code."""
    from ._errors import print_error

    print_error(error)
    return error.exit_code


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Tell whether memory did not suffice; a process without torch has only Python's own word for that."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from ..engine.out_of_memory import is_out_of_memory

    return is_out_of_memory(error)


def _memory_is_full(error: MemoryError | RuntimeError) -> ResourceError:
    """Say that memory ran out where nothing smaller could be tried, and that what was saved is safe."""
    said = str(error).partition("\n")[0] or "an allocation failed"
    remedy = "end other programs, then the same command, or weitiao train --resume RUN"
    return ResourceError(Problem("memory did not suffice", said, "free memory", remedy))


def _disk_is_full(error: OSError) -> ResourceError:
    """Say that the disk ran full, and that what was saved is safe."""
    where = str(error.filename or "while writing")
    return ResourceError(
        Problem("the disk is full", where, "free space", "free some, then weitiao train --resume RUN")
    )


def _report_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show what went wrong inside weitiao itself, and ask for it."""
    sys.__excepthook__(kind, error, trace)
    if threading.current_thread() is threading.main_thread() and issubclass(kind, Exception):
        click.echo("\nThis is a fault of weitiao's own. Please report it, with the lines above.", err=True)
