"""Ctrl-C and SIGTERM: noted at once and obeyed at the end of the step; a second one, or one outside the steps, at once.

Ctrl-C is an exception and so cleans up on its way; what SIGTERM does by default is the end of the process. A run makes
it an exception as well, or files of a run that was never saved would stay behind.
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
    """Which signal came, if any."""

    number: int | None = None

    def requested(self) -> bool:
        """Return whether a signal asked the run to stop."""
        return self.number is not None

    def stopped(self, out: str) -> Stopped:
        """Return what the run ends with: Interrupted for Ctrl-C, Terminated for SIGTERM."""
        number = signal.Signals(self.number or signal.SIGINT)
        is_ctrl_c = number is signal.SIGINT
        what = f"{'Ctrl-C' if is_ctrl_c else number.name} stopped the run; it is saved"
        kind = Interrupted if is_ctrl_c else Terminated
        return kind(Problem(what, remedy=f"weitiao train --resume {out}"))


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated(Problem("SIGTERM stopped the run"))


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within the context SIGTERM unwinds as Ctrl-C does, as Terminated, exit code 143.

    In another thread than the main one, or where the program around has its own handler, nothing is changed.
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
    """Note the first SIGINT or SIGTERM within the context and write `answer` to stderr; a second one acts as if nobody
    watched."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield request
        return
    before = {number: signal.getsignal(number) for number in WATCHED}

    def note(number: int, _: FrameType | None) -> None:
        request.number = number
        for watched, handler in before.items():
            signal.signal(watched, handler)
        with suppress(OSError):  # nobody reads it
            os.write(STDERR, answer)  # sys.stderr may be in the middle of a write of its own

    for number in WATCHED:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Within the context, which lasts a moment, the first SIGINT or SIGTERM waits for its end; a second one acts at
    once."""
    with watch_signals(b"") as request:
        yield
    if request.number is not None:
        signal.raise_signal(request.number)
