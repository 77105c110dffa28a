"""What holds for every reader: a new file in data/sources/readers/ is tested without editing this."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

from weitiao.core.errors import DataError
from weitiao.data.bad_rows import BadRow
from weitiao.data.conversation import Row
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.reader_choice import read_file
from weitiao.data.sources.readers import READERS

every_reader = pytest.mark.parametrize("name", READERS.names())
WITH_TEXT = [name for name in READERS.names() if READERS.load(name).example]
every_text = pytest.mark.parametrize("name", WITH_TEXT)


def rows_of(path: Path, content: bytes) -> list[Row | BadRow]:
    path.write_bytes(content)
    return list(read_file(path, SourceSettings(path=str(path)), []))


def fields_of(path: Path, content: bytes) -> list[dict[str, Any]]:
    rows = rows_of(path, content)
    assert not [row for row in rows if isinstance(row, BadRow)]
    return [row.fields for row in rows if isinstance(row, Row)]


def test_each_suffix_has_one_reader() -> None:
    suffixes = [suffix for name in READERS.names() for suffix in READERS.load(name).suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)


@every_reader
def test_it_says_what_it_is(name: str) -> None:
    reader = READERS.load(name)
    assert READERS.summary(name).endswith((".", ":"))
    assert reader.suffixes
    assert reader.example or not reader.compressible, "a text file shows an example"


@every_text
def test_its_example_becomes_rows_with_places(name: str, tmp_path: Path) -> None:
    reader = READERS.load(name)
    content = reader.example.encode()
    for suffix in reader.suffixes:
        path = tmp_path / f"example{suffix}"
        if suffix == ".tsv":
            content = reader.example.replace(",", "\t").encode()
        rows = rows_of(path, content)
        assert rows and all(isinstance(row, Row) and row.fields for row in rows)
        assert [row.place.rpartition(":")[0] for row in rows] == [str(path)] * len(rows)
        assert all(int(row.place.rpartition(":")[2]) >= 1 for row in rows)


@every_text
def test_line_ends_encodings_and_compression_change_no_row(name: str, tmp_path: Path) -> None:
    reader, path = READERS.load(name), tmp_path / f"a{READERS.load(name).suffixes[0]}"
    plain = fields_of(path, reader.example.encode())
    assert fields_of(path, reader.example.replace("\n", "\r\n").encode()) == plain
    assert fields_of(path, reader.example.encode("utf-8-sig")) == plain
    assert fields_of(path, reader.example.encode("utf-16")) == plain
    if reader.compressible:
        packed = path.with_name(f"{path.name}.gz")
        assert fields_of(packed, gzip.compress(reader.example.encode())) == plain


@every_reader
def test_what_is_no_such_file_is_refused_in_words(name: str, tmp_path: Path) -> None:
    draw = random.Random(name)
    for number, suffix in enumerate(READERS.load(name).suffixes):
        contents = [b"", b"\0", *(draw.randbytes(draw.randrange(1, 300)) for _ in range(20))]
        for content in contents:
            try:
                rows = rows_of(tmp_path / f"{number}{suffix}", content)
            except DataError as refusal:
                assert all(problem.what for problem in refusal.problems)
            else:
                assert all(row.reason for row in rows if isinstance(row, BadRow))
