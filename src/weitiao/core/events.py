"""The events of a run: one JSON object per line in events.jsonl, and the same objects for every listener."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .files import PRIVATE_FILE, saving

Event = dict[str, Any]
"""A record with at least `event` (its kind) and `time` (seconds since the epoch)."""

Listener = Callable[[Event], None]


class EventLog:
    """Appends events to a file, one per line, and passes them to listeners; first ends a line torn by a crash."""

    def __init__(self, path: Path | None, listeners: tuple[Listener, ...] = ()) -> None:
        """Open `path` for appending (None writes no file)."""
        self._listeners, self._path = listeners, path
        self._file = os.fdopen(_opened_privately(path), "a+b") if path else None
        if self._file and self._file.tell() > 0:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def emit(self, event: str, **fields: Any) -> None:  # noqa: ANN401  (any JSON values)
        """Write one event and pass it to the listeners; a non-finite number is written as its name.

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
        """Flush the file to disk (fsync) and close it."""
        if self._file:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


SECONDS_BEFORE_PROGRESS, SECONDS_BETWEEN_PROGRESS = 1.0, 1.0
"""Seconds before progress is first reported, and between two reports."""


class Progress:
    """Reports progress as `progress` events, once something takes longer than a second."""

    def __init__(
        self, emit: Callable[..., None], what: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock; `emit` takes the event's name and fields, `what` names the work in a few words."""
        self._emit, self._what, self._clock = emit, what, clock
        self._began = clock()
        self._next = self._began + SECONDS_BEFORE_PROGRESS
        self._told = False

    def __call__(self, done: float, total: float) -> None:
        """Report `done` of `total` if a report is due; the end is reported only if something was reported before."""
        if not (self._told if done >= total else self._is_due()):
            return
        self._told = done < total
        left = (self._clock() - self._began) * (total - done) / done if done else 0.0
        self._emit("progress", done=done, total=total, seconds_left=left, what=self._what)

    def counted(self, done: int) -> None:
        """Report `done` if a report is due, where the total is unknown."""
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
    """Replace NaN and inf, which JSON cannot represent, by their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def sentence_of(value: str | Sequence[str]) -> str:
    """Return an event's sentence in English; older runs wrote it as [English, Chinese]."""
    return value if isinstance(value, str) else value[0]


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a file; skip lines torn by a crash and lines that are not events."""
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
    """Return the `step` events that led to the final weights; steps repeated after a resume replace earlier ones."""
    kept: dict[int, Event] = {}
    for event in events:
        if event["event"] == "resumed":
            kept = {step: e for step, e in kept.items() if step <= event["step"]}
        elif event["event"] == "step":
            kept[event["step"]] = event
    return [kept[step] for step in sorted(kept)]
