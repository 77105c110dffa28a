"""What a run reports: one JSON object a line in events.jsonl, and the same to whoever listens."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .files import PRIVATE_FILE, saving

Event = dict[str, Any]
"""A record with at least `event` (its kind) and `time` (seconds since the epoch)."""

Listener = Callable[[Event], None]


class EventLog:
    """Append events to a file, a line each, and pass them on; a torn last line of a crash is ended first."""

    def __init__(self, path: Path | None, listeners: tuple[Listener, ...] = ()) -> None:
        """Open `path` for appending (None keeps nothing on disk)."""
        self._listeners, self._path = listeners, path
        self._file = os.fdopen(_opened_privately(path), "a+b") if path else None
        if self._file and self._file.tell() > 0:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def emit(self, event: str, **fields: Any) -> None:  # noqa: ANN401  (any JSON values)
        """Write and pass on one event; a number that is not finite is written as its name.

        Raises ResourceError where the disk is full, RunFolderError where the file cannot be written.
        """
        record: Event = {"event": event, "time": round(time.time(), 3), **fields}
        if self._file and self._path:
            line = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False)
            with saving(self._path):
                self._file.write(line.encode("utf-8") + b"\n")
                self._file.flush()
        for listener in self._listeners:
            listener(record)

    def close(self) -> None:
        """Make everything written durable and close the file."""
        if self._file:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


SECONDS_BEFORE_PROGRESS, SECONDS_BETWEEN_PROGRESS = 1.0, 1.0
"""When progress is first told of, and how often from then on."""


class Progress:
    """Tells of how far something is, once it takes longer than a moment, as `progress` events."""

    def __init__(
        self, emit: Callable[..., None], what: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin now; `emit` takes the event's name and its fields, `what` says in a few words what is done."""
        self._emit, self._what, self._clock = emit, what, clock
        self._began = clock()
        self._next = self._began + SECONDS_BEFORE_PROGRESS
        self._told = False

    def __call__(self, done: float, total: float) -> None:
        """Take notice of how much is done, of how much; the end is told of where anything was."""
        if not (self._told if done >= total else self._is_due()):
            return
        self._told = done < total
        left = (self._clock() - self._began) * (total - done) / done if done else 0.0
        self._emit("progress", done=done, total=total, seconds_left=left, what=self._what)

    def counted(self, done: int) -> None:
        """Take notice of how much is done, where the end is not known."""
        if self._is_due():
            self._emit("progress", done=done, total=None)

    def _is_due(self) -> bool:
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + SECONDS_BETWEEN_PROGRESS
        return True


def _opened_privately(path: Path) -> int:
    """Open a file for reading and appending; events quote answers, so only their owner may read them."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)


def _finite(value: Any) -> Any:  # noqa: ANN401
    """Replace NaN and inf, which JSON cannot hold, by their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a file; a line torn by a crash, or that is no event, is passed over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                yield event


def steps_that_count(events: Iterator[Event]) -> list[Event]:
    """Return the `step` events that made the final weights: those after a resume replace what they repeat."""
    kept: dict[int, Event] = {}
    for event in events:
        if event["event"] == "resumed":
            kept = {step: e for step, e in kept.items() if step <= event["step"]}
        elif event["event"] == "step":
            kept[event["step"]] = event
    return [kept[step] for step in sorted(kept)]
