"""Files that are broken, or not what their name says: each named by file and line, none ends in a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from malformed import MALFORMED, ROW
from weitiao.core.errors import DataError
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.sources import read_source


@pytest.mark.parametrize("what", MALFORMED)
def test_it_is_named_by_file_and_line(what: str, tmp_path: Path) -> None:
    name, content, place, said = MALFORMED[what]
    path = tmp_path / name
    path.write_bytes(content)
    try:
        rows = read_source(SourceSettings(path=str(path)))
        messages = [f"{bad.place}: {bad.reason}: {bad.detail}" for bad in rows.bad]
    except DataError as error:
        messages = [str(problem) for problem in error.problems]
    assert len(messages) == 1, messages
    assert f"{path}{place}" in messages[0]
    assert said in messages[0]
    assert path.read_bytes() == content


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Give up the rights of root, where the tests have them, so that permissions count."""
    if os.geteuid():
        yield
        return
    above = [one for one in (folder, *folder.parents) if not one.stat().st_mode & 0o001]
    modes = {one: one.stat().st_mode for one in above}
    for one in above:
        one.chmod(modes[one] | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for one in above:
            one.chmod(modes[one])


def test_a_file_that_may_not_be_read_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW)
    read_source(SourceSettings(path=str(path)))
    path.chmod(0)
    with as_nobody(tmp_path), pytest.raises(DataError, match="cannot be opened: permission denied"):
        read_source(SourceSettings(path=str(path)))


def test_links_to_themselves_are_said_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to(tmp_path / "a.json")
    with pytest.raises(DataError, match="broken or circular link"):
        read_source(SourceSettings(path=str(tmp_path / "a.json")))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ring").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "b.jsonl").write_bytes(ROW)
    assert len(read_source(SourceSettings(path=str(tmp_path / "data"))).rows) == 1


def test_a_huge_line_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW + b'{"a": "' + b"x" * (1 << 27) + b'"}\n' + ROW)
    rows = read_source(SourceSettings(path=str(path)))
    assert [row.line for row in rows.rows] == [1, 3]
    assert [bad.place for bad in rows.bad] == [f"{path}:2"]
    assert "longer than" in rows.bad[0].reason


def test_all_files_of_a_folder_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[" + ROW)
    (tmp_path / "b.json").write_bytes(b"")
    (tmp_path / "c.json").write_bytes(b"[" + ROW + b"]")
    with pytest.raises(DataError) as caught:
        read_source(SourceSettings(path=str(tmp_path)))
    assert [Path(problem.what.split()[0]).name for problem in caught.value.problems] == ["a.json", "b.json"]
