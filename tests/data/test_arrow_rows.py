"""Arrow pads structs with nulls: these are left out, while the nulls of columns, of maps and of JSON lines stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import feather, parquet

from weitiao.data.settings import SourceSettings
from weitiao.data.sources.sources import read_source

ROWS = [
    {"calls": [{"name": "w", "arguments": {"city": "Bern", "more": {"a": 1}}}], "note": None},
    {"calls": [{"name": "t", "arguments": {"unit": "C", "list": [{"x": 1}, {"y": 2}]}}], "note": "n"},
]


def fields(path: Path) -> list[dict[str, Any]]:
    """Read a file's rows."""
    return [row.fields for row in read_source(SourceSettings(path=str(path))).rows]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_what_arrow_padded_is_left_out(name: str, tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    assert table.to_pylist()[0]["calls"][0]["arguments"]["unit"] is None
    path = tmp_path / name
    if name == "a.parquet":
        parquet.write_table(table, path)
    else:
        feather.write_feather(table, str(path))
    assert fields(path) == ROWS


def test_a_null_in_json_lines_stays(tmp_path: Path) -> None:
    row = {"calls": [{"arguments": {"city": "Bern", "unit": None}}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert fields(tmp_path / "a.jsonl") == [row]


def test_a_map_is_an_object_and_keeps_its_nulls(tmp_path: Path) -> None:
    inner = pyarrow.map_(pyarrow.string(), pyarrow.struct({"x": pyarrow.int64(), "y": pyarrow.int64()}))
    kinds = {"m": pyarrow.map_(pyarrow.string(), pyarrow.string()), "n": pyarrow.list_(inner), "o": inner}
    rows = [
        {"m": [("city", "Bern"), ("unit", None)], "n": [[("a", {"x": 1, "y": None})], None], "o": None},
        {"m": None, "n": None, "o": []},
    ]
    arrays = {name: pyarrow.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
    parquet.write_table(pyarrow.table(arrays), tmp_path / "a.parquet")
    assert fields(tmp_path / "a.parquet") == [
        {"m": {"city": "Bern", "unit": None}, "n": [{"a": {"x": 1}}, None], "o": None},
        {"m": None, "n": None, "o": {}},
    ]


def test_rows_of_several_groups_are_numbered_through(tmp_path: Path) -> None:
    table = pyarrow.table({"a": list(range(500))})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=70)
    rows = read_source(SourceSettings(path=str(tmp_path / "a.parquet"))).rows
    assert [row.line for row in rows] == list(range(1, 501))
    assert [row.fields["a"] for row in rows] == list(range(500))


def test_text_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    bad = pyarrow.array([b"ok", b"\xff\xfe", b"ok"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"a": bad}), tmp_path / "a.parquet")
    found = read_source(SourceSettings(path=str(tmp_path / "a.parquet")))
    assert [row.line for row in found.rows] == [1, 3]
    assert [(one.place.rpartition(":")[2], "not in UTF-8" in one.reason) for one in found.bad] == [
        ("2", True)
    ]
