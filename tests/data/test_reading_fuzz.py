"""Damaged and odd files of every kind, made with a seed: each is read or refused in words, never with a traceback."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import openpyxl
import pyarrow
import pytest
from pyarrow import ipc, parquet
from pydantic import ValidationError

from weitiao.core.errors import DataError, WeitiaoError
from weitiao.data.gate.gate import open_data
from weitiao.data.settings import DataSettings, SourceSettings
from weitiao.data.sources.sources import open_source

ROWS = [
    {
        "instruction": f"Question 问题 {n}?",
        "output": f"Answer “{n}”, // not a comment",
        "n": n,
        "m": [{"a": {"b": n}}],
    }
    for n in range(40)
]
SUFFIXES = [
    "json",
    "jsonl",
    "csv",
    "tsv",
    "txt",
    "md",
    "parquet",
    "arrow",
    "xlsx",
    "json.gz",
    "csv.zst",
    "feather",
]
SEEDS = 3
"""Of each kind of file so many are damaged in each way; thousands were tried while this was written."""


def _csv(mark: str) -> bytes:
    lines = [
        mark.join(("instruction", "output")),
        *(f'"{row["instruction"]}"{mark}"x ""y"" {n}"' for n, row in enumerate(ROWS)),
    ]
    return "\n".join(lines).encode()


def _table() -> pyarrow.Table:
    return pyarrow.Table.from_pylist(ROWS)


def _parquet() -> bytes:
    content = io.BytesIO()
    parquet.write_table(_table(), content, row_group_size=16)
    return content.getvalue()


def _arrow(stream: bool) -> bytes:
    content = io.BytesIO()
    make = ipc.new_stream if stream else ipc.new_file
    with make(
        content, _table().schema, options=ipc.IpcWriteOptions(compression=None if stream else "lz4")
    ) as file:
        file.write_table(_table())
    return content.getvalue()


def _xlsx() -> bytes:
    content, book = io.BytesIO(), openpyxl.Workbook()
    for row in [["instruction", "output"], *([one["instruction"], one["output"]] for one in ROWS)]:
        book.active.append(row)
    book.save(content)
    return content.getvalue()


def _json(indent: int | None = None, **options: object) -> bytes:
    return json.dumps(ROWS, indent=indent, ensure_ascii=False).encode()


def _jsonl() -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()


KINDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "json": ("a.json", _json),
    "indented json": ("a.json", lambda: _json(1)),
    "json with an object": ("a.json", lambda: b'{"version": 1, "data": ' + _json() + b"}"),
    "pasted json": ("a.json", lambda: b"// first\n" + repr(ROWS).encode() + b" # last\n"),
    "json lines": ("a.jsonl", _jsonl),
    "csv": ("a.csv", lambda: _csv(",")),
    "tsv": ("a.tsv", lambda: _csv("\t")),
    "txt": ("a.txt", lambda: "\n\n".join(row["output"] for row in ROWS).encode()),  # type: ignore[misc]
    "md": ("a.md", lambda: b"---\ntitle: x\n---\n\n# One\n\ntext\n"),
    "parquet": ("a.parquet", _parquet),
    "arrow": ("a.arrow", lambda: _arrow(False)),
    "arrow stream": ("a.arrow", lambda: _arrow(True)),
    "xlsx": ("a.xlsx", _xlsx),
    "gz": ("a.jsonl.gz", lambda: gzip.compress(_jsonl())),
    "zst": ("a.json.zst", lambda: bytes(pyarrow.Codec("zstd").compress(_json(), asbytes=True))),
}
PIECES = [
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b'"', b"'", b"{", b"[", b"]", b"}", b"//", b"/*", b"#",
    b",", "“".encode(), b"9" * 5000, b"[" * 2000, b'{"a":' * 1200, b"\\ud800", b"\\", b"NaN", b"-", b"1e999",
    b"\x1f\x8b", b"PK\x03\x04", b"\xed\xa0\x80", "\u2028".encode(), b'"a":1,"a":2,',
]  # fmt: skip


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def _flip(content: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 20))):
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + draw.choice(PIECES) + content[at:]


def _leave_out(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + content[at + draw.randrange(1, 200) :]


def _double(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + content[draw.randrange(len(content)) :]


def _encoded(content: bytes, draw: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    codec = draw.choice(("utf-16", "utf-16-le", "utf-32-be", "gb18030", "utf-8-sig", "cp1252", "utf-7"))
    made = text.encode(codec, "replace")
    return made if draw.random() < 0.7 else content[: len(content) // 2] + made[len(made) // 2 :]


WAYS = [_cut, _flip, _insert, _leave_out, _double, _encoded]


def read_in_words(path: Path | str) -> None:
    """Bring a file through the gate; fails for anything but words."""
    with contextlib.suppress(WeitiaoError, ValidationError):
        gate = open_data(DataSettings(sources=[{"path": str(path)}], held_out=0))
        json.dumps(gate.as_dict(), ensure_ascii=False).encode()
        assert gate.problems or gate.tally.read


def read_or_refuse(path: Path) -> None:
    """Read a file alone, which is much faster; fails for anything but words."""
    with contextlib.suppress(DataError):
        for row in open_source(SourceSettings(path=str(path))):
            assert row.place.startswith(str(path))


def damaged_files(kind: str, seeds: range) -> Iterator[tuple[str, str, bytes]]:
    """Yield (what was done, a name, content) of a file that was damaged."""
    name, make = KINDS[kind]
    content = make()
    for seed in seeds:
        for way in WAYS:
            draw = random.Random(f"{kind}{way.__name__}{seed}")
            yield f"{way.__name__} {seed}", name, way(content, draw)
        draw = random.Random(f"{kind}{seed}")
        yield f"suffix {seed}", f"a.{draw.choice(SUFFIXES)}", content


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused_in_words(kind: str, tmp_path: Path) -> None:
    for number, (what, name, content) in enumerate(damaged_files(kind, range(SEEDS))):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(content)
        try:
            read_or_refuse(path) if number % 5 else read_in_words(path)
        except Exception as error:
            raise AssertionError(f"{kind}: {what}: {name}") from error


def test_whole_files_of_every_kind_are_read(tmp_path: Path) -> None:
    for number, (name, make) in enumerate(KINDS.values()):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(make())
        gate = open_data(DataSettings(sources=path, held_out=0))
        assert not gate.problems, (name, gate.problems)
        assert not gate.tally.bad


NAMES = [
    b"a\xff\xfe.jsonl", b"new\nline.jsonl", b"bell\x07\x1b[31m.jsonl", b"a b'\"$(x).jsonl", b"x" * 240 + b".jsonl",
    "\u202e问题.jsonl".encode(), b".jsonl", b"a.JSONL", b"a.jsonl ", b"-rf.jsonl", b"a:1.jsonl", b"${HOME}.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name_end_in_words(name: bytes, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(_jsonl() + b"\n{broken\n")
    read_in_words(path)
    read_in_words(path.with_name(path.name + "x"))
    read_in_words(tmp_path)


def _special(folder: Path) -> Iterator[Path]:
    """Yield what is no file with rows."""
    good = folder / "good.jsonl"
    good.write_bytes(_jsonl())
    os.mkfifo(folder / "fifo.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "empty.json").touch()
    (folder / "link.jsonl").symlink_to(good)
    (folder / "to-fifo.jsonl").symlink_to(folder / "fifo.jsonl")
    (folder / "to-folder.json").symlink_to(folder / "folder.jsonl")
    (folder / "ring.jsonl").symlink_to(folder / "ring2.jsonl")
    (folder / "ring2.jsonl").symlink_to(folder / "ring.jsonl")
    (folder / "nowhere.parquet").symlink_to(folder / "none")
    yield from sorted(folder.iterdir())
    yield folder
    yield folder / "good.jsonl" / "inside.json"
    yield Path("/dev/null")
    yield Path("/proc/self/mem")
    yield Path("x" * 5000 + ".json")


def test_what_is_no_file_ends_in_words(tmp_path: Path) -> None:
    for path in _special(tmp_path):
        read_in_words(path)


ODD = {
    "a\0.json": "a\0.json",
    "empty name": "",
    "only a dot": ".",
    "a home of nobody": "~nobody-here/a.json",
    "a colon": "dataset_info.json:",
    "a modelscope without a name": "modelscope:",
}


@pytest.mark.parametrize("what", ODD)
def test_names_that_are_no_paths_end_in_words(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read_in_words(ODD[what])
