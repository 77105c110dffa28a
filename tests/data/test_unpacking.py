"""A small file that becomes huge is refused early, by every reader, with the setting that raises the limit."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow
import pytest
from pyarrow import ipc, parquet

from weitiao.core.errors import DataError
from weitiao.data.settings import SourceSettings
from weitiao.data.sources import decompression
from weitiao.data.sources.sources import open_source, read_source

MIB = 1 << 20


def packed(text: bytes, mebibytes: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a .gz of a text that is repeated."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=1) as file:
        file.write(before)
        for _ in range(mebibytes):
            file.write(text * (MIB // len(text)))
        file.write(after)
    return content.getvalue()


def zstandard_of(content: bytes) -> bytes:
    """Return a .zst."""
    return bytes(pyarrow.Codec("zstd").compress(content, asbytes=True))


def zstandard() -> bytes:
    """Return a .zst of rows that are alike."""
    return zstandard_of(b'{"a": 1}\n' * (60 * MIB // 9))


def table(**columns: pyarrow.Array) -> pyarrow.Table:
    """Return a table of arrays."""
    return pyarrow.table(columns)


def repeated(value: str, count: int) -> pyarrow.Array:
    """Return an array that holds one value, and says so many times that it stands there."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int8()), [value])


def as_parquet(made: pyarrow.Table) -> bytes:
    """Return a parquet file."""
    content = io.BytesIO()
    parquet.write_table(made, content, compression="zstd", dictionary_pagesize_limit=1 << 30)
    return content.getvalue()


def as_arrow(made: pyarrow.Table) -> bytes:
    """Return an arrow file."""
    content = io.BytesIO()
    with ipc.new_file(content, made.schema, options=ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(made)
    return content.getvalue()


def as_xlsx(rows: bytes) -> bytes:
    """Return an Excel file with some more rows in its sheet."""
    plain, made = io.BytesIO(), io.BytesIO()
    book = openpyxl.Workbook()
    book.active.append(["a", "b"])
    book.save(plain)
    with (
        zipfile.ZipFile(plain) as old,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b"</sheetData>", rows + b"</sheetData>"))
    return made.getvalue()


def long_cell() -> bytes:
    """Return an Excel file with one long text."""
    return as_xlsx(b'<row r="2"><c r="A2" t="inlineStr"><is><t>' + b"x" * 60 * MIB + b"</t></is></c></row>")


def wide_rows() -> bytes:
    """Return an Excel file whose rows have one cell, in the last of 16,384 columns."""
    return as_xlsx(b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (n, n) for n in range(2, 3000)))


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "white space": ("a.jsonl.gz", lambda: packed(b" ", 40, after=b'{"a": 1}')),
    "one line": ("a.jsonl.gz", lambda: packed(b"x", 40, b'{"a": "', b'"}')),
    "one value": ("a.json.gz", lambda: packed(b"x", 40, b'[{"a": "', b'"}]')),
    "small lines": ("a.jsonl.gz", lambda: packed(b'{"a": 1}\n', 5)),
    "small values": ("a.json.gz", lambda: packed(b'{"a":1},', 5, b"[", b'{"a":1}]')),
    "brackets": ("a.json.gz", lambda: packed(b"[", 40)),
    "a comment": ("a.json.gz", lambda: packed(b"x", 40, b"[//")),
    "zero bytes": ("a.jsonl.gz", lambda: packed(b"\0", 40)),
    "small table rows": ("a.csv.gz", lambda: packed(b"1,2\n", 5, b"a,b\n")),
    "one document": ("a.txt.gz", lambda: packed(b"x", 40)),
    "lines of text": ("a.txt.gz", lambda: packed(b"x\n\n", 5)),
    "zstandard": ("a.jsonl.zst", zstandard),
    "a long value of a parquet dictionary": (
        "a.parquet",
        lambda: as_parquet(table(a=repeated("x" * MIB, 1000))),
    ),
    "a longer one": ("a.parquet", lambda: as_parquet(table(a=repeated("x" * 70 * MIB, 100)))),
    "many rows of parquet": ("a.parquet", lambda: as_parquet(table(a=repeated("x", 5_000_000)))),
    "many rows of nothing": ("a.arrow", lambda: as_arrow(table(a=pyarrow.nulls(2_000_000_000)))),
    "a long value of an arrow dictionary": (
        "a.arrow",
        lambda: as_arrow(table(a=repeated("x" * 10 * MIB, 1000))),
    ),
    "packed arrow": ("a.arrow", lambda: as_arrow(table(a=pyarrow.array(["x" * MIB] * 60)))),
    "a long cell": ("a.xlsx", long_cell),
    "wide rows": ("a.xlsx", wide_rows),
}


@pytest.fixture
def quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow a quarter of what is always allowed, so that bombs are as much smaller."""
    monkeypatch.setattr(decompression, "ALWAYS_BYTES", 32 * MIB)


@pytest.mark.usefixtures("quarter")
@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_packed_file_is_measured_before_its_first_row(ending: str, tmp_path: Path) -> None:
    text = b'{"instruction": "q", "output": "' + b"x" * 400 + b'"}\n'
    path = tmp_path / f"a.jsonl.{ending}"
    whole = text * (40 * MIB // len(text))
    path.write_bytes(gzip.compress(whole) if ending == "gz" else zstandard_of(whole))
    with pytest.raises(DataError, match="decompression bomb"):
        next(iter(open_source(SourceSettings(path=str(path)))))


@pytest.mark.usefixtures("quarter")
@pytest.mark.parametrize("what", BOMBS)
def test_it_is_refused_before_it_fills_anything(what: str, tmp_path: Path) -> None:
    name, make = BOMBS[what]
    path = tmp_path / name
    path.write_bytes(make())
    assert path.stat().st_size < 2 * MIB
    given = 0
    with pytest.raises(DataError) as caught:
        for _ in open_source(SourceSettings(path=str(path))):
            given += 1
    (problem,) = caught.value.problems
    assert "decompression bomb" in problem.what and str(path) in problem.what
    assert "max_unpack_ratio" in problem.remedy
    assert given <= decompression.ALWAYS_BYTES // decompression.LEAST_ROW_BYTES


@pytest.mark.usefixtures("quarter")
def test_the_setting_named_raises_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(packed(b'{"a": 1, "b": "%s"}\n' % (b"x" * 4000), 40))
    with pytest.raises(DataError) as caught:
        read_source(SourceSettings(path=str(path)))
    ratio = float(caught.value.problems[0].remedy.split("max_unpack_ratio: ")[1].split()[0])
    rows = open_source(SourceSettings(path=str(path), max_unpack_ratio=ratio))
    assert sum(1 for _ in rows) == 40 * (MIB // 4020)


def test_lines_that_no_table_has_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"," * (70 * MIB))
    (tmp_path / "b.csv").write_bytes(b"a" + b",a" * 20_000 + b"\n1\n")
    (tmp_path / "c.txt").write_bytes(b"one\n\n" + b"x" * (70 * MIB) + b"\n\ntwo\n")
    with pytest.raises(DataError, match="too long for a table"):
        read_source(SourceSettings(path=str(tmp_path / "a.csv")))
    with pytest.raises(DataError, match="20,001 columns"):
        read_source(SourceSettings(path=str(tmp_path / "b.csv")))
    found = read_source(SourceSettings(path=str(tmp_path / "c.txt")))
    assert [row.fields["text"] for row in found.rows] == ["one", "two"]
    assert "longer than" in found.bad[0].reason


def test_excel_says_nothing_untrue_of_its_size_and_drops_no_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    rows = b'<row r="2"><c r="A2"><v>1</v></c></row><row r="3"><c r="A3"><v>1</v></c><c r="C3"><v>7</v></c></row>'
    path.write_bytes(as_xlsx(rows).replace(b"A1:B1", b"A1:A1"))
    found = read_source(SourceSettings(path=str(path)))
    assert [row.fields for row in found.rows] == [{"a": "1", "b": ""}]
    assert (found.bad[0].place, found.bad[0].detail) == (f"{path}:3", "'7'")
