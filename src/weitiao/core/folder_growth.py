"""Reports the growth of a folder while something else, such as a download, writes into it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event as Flag
from threading import Thread

from .events import Listener

INTERVAL_SECONDS = 0.5
EARLY_SECONDS, EARLY_SHARE = 2.0, 0.002
"""Before both are reached, the estimate of the time left is too rough to report."""
BLOCK_BYTES = 512
"""Unit of `st_blocks`, on every system that has it."""


def bytes_on_disk(folder: Path) -> int:
    """Return the bytes that the files under a folder occupy on disk; 0 if it does not exist.

    Space that a file reserves but has not written is not counted, nor are the targets of links.
    """
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a file that has just been renamed
                found += (Path(place) / name).lstat().st_blocks * BLOCK_BYTES
    return found


@contextmanager
def reported_growth(folder: Path, total_bytes: int, listener: Listener) -> Iterator[None]:
    """Send a `transfer` event (done, total: bytes; seconds_left, None while too early to estimate) twice a second.

    The work itself stays in the calling thread, so that Ctrl-C reaches it. The last event reports the total as done;
    it is not sent if the context fails.
    """
    done = Flag()
    before_bytes = bytes_on_disk(folder)
    watcher = Thread(target=_report, args=(folder, before_bytes, total_bytes, listener, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    listener(_event(total_bytes, total_bytes, 0.0))


def _report(folder: Path, before_bytes: int, total_bytes: int, listener: Listener, done: Flag) -> None:
    began_seconds = time.monotonic()
    while not done.wait(INTERVAL_SECONDS):
        here = min(bytes_on_disk(folder) - before_bytes, total_bytes)
        if here > 0:
            passed = time.monotonic() - began_seconds
            is_early = passed < EARLY_SECONDS or here < EARLY_SHARE * total_bytes
            listener(_event(here, total_bytes, None if is_early else passed * (total_bytes - here) / here))


def _event(done_bytes: int, total_bytes: int, seconds_left: float | None) -> dict[str, object]:
    return {"event": "transfer", "done": done_bytes, "total": total_bytes, "seconds_left": seconds_left}
