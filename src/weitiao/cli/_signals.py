"""Ctrl-C and SIGTERM of a command: one exception each, whatever runs at that moment, and one sentence at the end.

A signal that comes while another is being obeyed is the same key held down, or a second wish for the same thing: it
must not turn the clean-up into a traceback. A clean-up that takes longer than a moment may be ended by another one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

STDERR = 2
SAME_PRESS_SECONDS = 0.5
SOON_SECONDS = 60.0
"""How long the exception of a signal may be on its way: a library that swallows it in an import goes on importing."""
AGAIN_SECONDS = 0.02
SENTENCES = {signal.SIGINT: "stopped by Ctrl-C", signal.SIGTERM: "stopped by SIGTERM"}


class Signals:
    """The handler of both signals for as long as a command runs."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._came_at = float("-inf")
        self._ending = False

    def install(self) -> None:
        """Take the signals over; one that the parent process lets be ignored (nohup, a shell's `&`) stays ignored."""
        for number in SENTENCES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._obey)

    def came_just_now(self) -> bool:
        """Return whether a signal was turned into an exception a moment ago, which may still be on its way."""
        return time.monotonic() - self._came_at < SOON_SECONDS

    def ends(self) -> None:
        """Note that the command is over: another signal ends the process without an exception."""
        self._ending = True
        self._came_at = time.monotonic()

    def leave(self) -> None:
        """Let nothing stop the end of the process, which takes its handlers away before it is done with the rest."""
        for number in SENTENCES:
            signal.signal(number, signal.SIG_IGN)

    def send_again(self) -> None:
        """Send the last signal again in a moment, as its exception was lost: nobody catches one of a destructor.

        Not at once: whoever calls this does so where that exception came up, and the next would be lost as well.
        """
        if self._came is not None:
            from threading import Timer

            self._came_at = float("-inf")
            timer = Timer(AGAIN_SECONDS, signal.raise_signal, [self._came])
            timer.daemon = True
            timer.start()

    def end_now(self) -> None:
        """End the process with one sentence, without unwinding any further; what was printed is still written."""
        number = signal.Signals(self._came or signal.SIGINT)
        # Reentered where the signal came in the middle of a write to it, broken or closed where nobody reads it.
        with suppress(RuntimeError, OSError, ValueError):
            sys.stdout.flush()
        with suppress(OSError):
            os.write(STDERR, f"\n{SENTENCES[number]}\n".encode())
        # No file can be half written by now: this comes after `ends` or from the hook for uncaught errors, and until
        # either every `with` and `finally` has run, which closes the event log and removes what was begun. An exception
        # instead could come up in a destructor or in a library's exit handler, where nobody would catch it, and the
        # person would read a traceback and get another code.
        os._exit(128 + number)

    def _obey(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        since, self._came_at = now - self._came_at, now
        if since < SAME_PRESS_SECONDS:
            return
        self._came = number
        if self._ending:
            self.end_now()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        from ..core.errors import Problem, Terminated

        raise Terminated(Problem(SENTENCES[signal.SIGTERM]))
