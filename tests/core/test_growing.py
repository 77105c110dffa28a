"""How far a download or a conversion is, read off the folder that it writes into."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from weitiao.core.events import Event
from weitiao.core.folder_growth import bytes_on_disk, reported_growth

MIB = 1 << 20


def written(path: Path, size_bytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\1" * size_bytes)


def test_what_is_written_counts_and_what_is_reserved_does_not(tmp_path: Path) -> None:
    assert bytes_on_disk(tmp_path / "not there yet") == 0
    written(tmp_path / "a" / "b", MIB)
    with (tmp_path / "reserved").open("wb") as file:
        file.truncate(100 * MIB)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    assert MIB <= bytes_on_disk(tmp_path) < 1.5 * MIB


def test_growth_is_reported_until_all_is_there(tmp_path: Path) -> None:
    written(tmp_path / "before", 3 * MIB)  # was there, and does not count
    events: list[Event] = []
    with reported_growth(tmp_path / "new", 2 * MIB, events.append):
        written(tmp_path / "new" / "half", MIB)
        while not events:
            time.sleep(0.01)
        written(tmp_path / "new" / "rest", 3 * MIB)  # more than was said
        while events[-1]["done"] < 2 * MIB:
            time.sleep(0.01)
    assert [event["event"] for event in events] == ["transfer"] * len(events)
    assert 0 < events[0]["done"] < 1.5 * MIB and events[0]["seconds_left"] is None
    assert events[-1] == {"event": "transfer", "done": 2 * MIB, "total": 2 * MIB, "seconds_left": 0.0}


def test_what_fails_is_not_called_done(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(OSError, match="broken"), reported_growth(tmp_path, MIB, events.append):
        raise OSError("broken")
    assert events == []
