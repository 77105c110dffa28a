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
        from ._errors import print_error

        print_error(error)
        return error.exit_code
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        from ._errors import print_error

        print_error(full := _disk_is_full(error))
        return full.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped by Ctrl-C", err=True)
        return 130
    return result if isinstance(result, int) else 0


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
