"""Ctrl-C and SIGTERM: noted at once and obeyed at the end of the step; a second one, or one outside the steps, at once.

Ctrl-C is an exception and so cleans up on its way; what SIGTERM does by default is the end of the process. A run makes
it an exception as well, or files of a run that was never saved would stay behind.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from ..core.errors import Interrupted, Problem

WATCHED = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopRequest:
    """Which signal came, if any."""

    number: int | None = None

    def requested(self) -> bool:
        """Tell whether a signal asked the run to stop."""
        return self.number is not None

    def interrupted(self, out: str) -> Interrupted:
        """Return the error the run ends with: exit code 130 for Ctrl-C, 143 for SIGTERM."""
        number = signal.Signals(self.number or signal.SIGINT)
        what = f"{'Ctrl-C' if number is signal.SIGINT else number.name} stopped the run; it is saved"
        return Interrupted(Problem(what, remedy=f"weitiao train --resume {out}"), 128 + number)


class _Terminated(KeyboardInterrupt):
    """SIGTERM on its way up: like Ctrl-C it is no Exception, and so passes where other people's code catches those."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within the context SIGTERM unwinds as Ctrl-C does and leaves it as Interrupted, exit code 143.

    In another thread than the main one, or where the program around has its own handler, nothing is changed.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except _Terminated as stop:
        raise Interrupted(Problem("SIGTERM stopped the run"), 128 + signal.SIGTERM) from stop
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def watch_signals() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM within the context; a second one acts as if nobody watched."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield request
        return
    before = {number: signal.getsignal(number) for number in WATCHED}

    def note(number: int, _: FrameType | None) -> None:
        request.number = number
        for watched, handler in before.items():
            signal.signal(watched, handler)

    for number in WATCHED:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
