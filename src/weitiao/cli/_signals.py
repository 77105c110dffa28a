"""Handling of Ctrl-C and SIGTERM: each raises one exception, whatever runs at that moment, and ends with one sentence.

A second signal while the first is handled is usually the same key held down or a repeated request: it must not turn
the clean-up into a traceback. A clean-up that takes longer than SAME_PRESS_SECONDS can be ended by another signal.
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
"""How long a signal's exception may take to surface: a library that swallows it in an import goes on importing."""
AGAIN_SECONDS = 0.02
SENTENCES = {signal.SIGINT: "stopped by Ctrl-C", signal.SIGTERM: "stopped by SIGTERM"}


class Signals:
    """The handler of both signals while a command runs."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._came_at = float("-inf")
        self._ending = False
        self.installed = False
        """Whether this process was started for one command, rather than a command being called from Python."""

    def install(self) -> None:
        """Install the handlers; a signal that the parent process ignores (nohup, a shell's `&`) stays ignored."""
        self.installed = True
        for number in SENTENCES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._obey)

    def came_just_now(self) -> bool:
        """Return whether a signal was recently turned into an exception, which may still be on its way."""
        return self._came is not None and time.monotonic() - self._came_at < SOON_SECONDS

    def ends(self) -> None:
        """Mark the command as over: another signal ends the process without an exception."""
        self._ending = True
        self._came_at = time.monotonic()

    def leave(self) -> None:
        """Ignore both signals from here on: Python removes its handlers before it has finished shutting down."""
        for number in SENTENCES:
            signal.signal(number, signal.SIG_IGN)

    def send_again(self) -> None:
        """Send the last signal again shortly: its exception was lost where nothing catches it, as in a destructor.

        Not at once: the caller still runs where that exception was lost, and the next would be lost too. To the main
        thread, which runs the handler: sent to the timer's own, it would not end a wait for input or a download.
        """
        if self._came is not None:
            from threading import Timer, main_thread

            self._came_at = float("-inf")
            timer = Timer(AGAIN_SECONDS, signal.pthread_kill, [main_thread().ident, self._came])
            timer.daemon = True
            timer.start()

    def end_now(self) -> None:
        """End the process with one sentence and without unwinding the stack; buffered output is still written."""
        number = signal.Signals(self._came or signal.SIGINT)
        # flush fails if the signal came during a write to stdout (reentrant call) or if the pipe is broken or closed.
        with suppress(RuntimeError, OSError, ValueError):
            sys.stdout.flush()
        with suppress(OSError):
            os.write(STDERR, f"\n{SENTENCES[number]}\n".encode())
        # No file can be half-written here: this runs after `ends` or from the hook for uncaught errors, when every
        # `with` and `finally` has run, which closes the event log and removes unfinished files. An exception instead
        # could surface in a destructor or a library's exit handler, where nothing catches it: the person would see a
        # traceback and get another exit code.
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
