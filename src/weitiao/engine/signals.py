"""Ctrl-C and SIGTERM: noted at once, obeyed at the end of the step, and the second one ends the process."""

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
