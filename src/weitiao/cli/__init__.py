"""The command `weitiao`: a command is a file in this folder, found by name and imported when it is typed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ._signals import Signals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from ..core.errors import Problem, Stopped

SIGNALS = Signals()


def main() -> None:
    """Run the command line and exit: 0 when done, else a code of `weitiao.core.errors.EXIT_CODES`."""
    # Before all other imports, which take seconds: a signal that comes during them must be handled too.
    SIGNALS.install()
    sys.excepthook, sys.unraisablehook = _report_fault, _report_lost
    try:
        from ._environment import prepare_environment

        prepare_environment()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        SIGNALS.ends()
        from ..core.locale import shown

        print(shown("stopped by Ctrl-C"), file=sys.stderr)
        code = 130
    SIGNALS.leave()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors a person can fix are printed, others raised."""
    from ..core.locale import use_language
    from ._language import language_named

    with use_language(language_named(arguments)):
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    import click

    from ..core.errors import Interrupted, Problem, Stopped, WeitiaoError
    from ._commands import commands

    try:
        result = commands.main(arguments, prog_name="weitiao", standalone_mode=False)
    except (Stopped, KeyboardInterrupt, click.Abort) as stop:
        # click turns a KeyboardInterrupt into an Abort
        why = stop.__cause__ if isinstance(stop, click.Abort) else stop
        return _stopped(why if isinstance(why, Stopped) else Interrupted(Problem("stopped by Ctrl-C")))
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except WeitiaoError as error:
        if SIGNALS.came_just_now():  # a library swallowed the signal's exception, then failed
            SIGNALS.end_now()
        return _told(error.problems, error.exit_code)
    except (OSError, MemoryError, RuntimeError) as error:
        from ._machine_failures import failure_of_the_machine

        failure = failure_of_the_machine(error)
        if failure is None:
            raise
        return _told(failure.problems, failure.exit_code)
    return result if isinstance(result, int) else 0


def _stopped(stopped: Stopped) -> int:
    """Print the state of things after a signal, and return its exit code."""
    SIGNALS.ends()
    return _told(stopped.problems, stopped.exit_code)


def _told(problems: Sequence[Problem], exit_code: int) -> int:
    """Print problems and return the exit code."""
    from ._print_problems import print_problems

    print_problems(problems)
    return exit_code


def _report_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a fault in weitiao itself, and ask for a report."""
    import threading

    if SIGNALS.came_just_now():  # a library replaced the signal's exception with its own
        SIGNALS.end_now()
    sys.__excepthook__(kind, error, trace)
    if threading.current_thread() is threading.main_thread() and issubclass(kind, Exception):
        from ..core.locale import shown

        print(
            "\n" + shown("This is a fault in weitiao. Please report it, with the lines above."),
            file=sys.stderr,
        )


def _report_lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Handle a signal whose exception was raised where nothing can catch it, such as in a destructor."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt | SystemExit):
        SIGNALS.send_again()
    else:
        sys.__unraisablehook__(unraisable)
