"""Ctrl-C and SIGTERM: the first one stops the run at the end of the step; a second, or one outside steps, acts at once.

Ctrl-C raises an exception, so clean-up code runs; SIGTERM by default ends the process without it. A run turns SIGTERM
into an exception too, or the files of a run that was never saved would be left behind.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from ...core.errors import Interrupted, Problem, Stopped, Terminated

WATCHED = (signal.SIGINT, signal.SIGTERM)
STDERR = 2
FINISHING = b"\nfinishing this step, then saving (once more: stop at once)\n"


@dataclass
class StopRequest:
    """The stop signal received, if any."""

    number: int | None = None

    def requested(self) -> bool:
        """Return whether a signal asked the run to stop."""
        return self.number is not None

    def stopped(self, out: str) -> Stopped:
        """Return the exception to end the run with: Interrupted for Ctrl-C, Terminated for SIGTERM."""
        number = signal.Signals(self.number or signal.SIGINT)
        is_ctrl_c = number is signal.SIGINT
        what = f"{'Ctrl-C' if is_ctrl_c else number.name} stopped the run; it is saved"
        kind = Interrupted if is_ctrl_c else Terminated
        return kind(Problem(what, remedy=f"weitiao train --resume {out}"))


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated(Problem("SIGTERM stopped the run"))


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within the context, SIGTERM raises Terminated (exit code 143), so the stack unwinds as with Ctrl-C.

    Changes nothing outside the main thread, or if the surrounding program has its own handler.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def watch_signals(answer: bytes = FINISHING) -> Iterator[StopRequest]:
    """Within the context, record the first SIGINT or SIGTERM and write `answer` to stderr; a second one goes to the
    previous handler."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield request
        return
    before = {number: signal.getsignal(number) for number in WATCHED}

    def note(number: int, _: FrameType | None) -> None:
        request.number = number
        for watched, handler in before.items():
            signal.signal(watched, handler)
        with suppress(OSError):  # stderr may be closed
            os.write(STDERR, answer)  # not sys.stderr: the handler may interrupt one of its writes

    for number in WATCHED:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Delay the first SIGINT or SIGTERM to the end of the (short) context; a second one acts at once."""
    with watch_signals(b"") as request:
        yield
    if request.number is not None:
        signal.raise_signal(request.number)
