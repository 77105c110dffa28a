"""Reading files: every kind, the line of every row, and what a broken file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weitiao.core.errors import DataError, Problem
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.sources import open_source, read_source
from weitiao.data.sources.stream import Rows

ROWS = [{"instruction": "谁？", "output": "我"}, {"instruction": "b", "output": "c\nd"}]


def read(path: Path, content: str | bytes | None = None) -> Rows:
    """Write a file where content is given, and read it."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_source(SourceSettings(path=str(path)))


def problem(path: Path, content: str | bytes | None = None) -> Problem:
    """Return the one problem that reading a file ends in."""
    with pytest.raises(DataError) as caught:
        read(path, content)
    (one,) = caught.value.problems
    return one


def test_json_list_gives_rows_with_the_line_each_begins_on(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.json", json.dumps(ROWS, indent=2)).rows
    assert [row.fields for row in rows] == ROWS
    assert [row.line for row in rows] == [2, 6]
    assert rows[1].place == f"{tmp_path / 'a.json'}:6"


def test_json_object_with_one_list_names_it(tmp_path: Path) -> None:
    text = json.dumps({"version": [1, {"a": "]"}][1], "data": ROWS, "n": 2}, indent=1)
    found = read(tmp_path / "a.json", text)
    assert [row.fields for row in found.rows] == ROWS
    assert "'data'" in found.notes[0]
    assert [text.split("\n")[row.line - 1].strip() for row in found.rows] == ["{", "{"]


def test_json_object_with_no_or_two_lists_is_refused(tmp_path: Path) -> None:
    assert "'a', 'b'" in problem(tmp_path / "a.json", '{"a": [{}], "b": [{}]}').got
    assert "no list of rows" in problem(tmp_path / "a.json", '{"a": 1}').what


def test_json_lines_are_read_under_either_name(tmp_path: Path) -> None:
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    for name in ("a.jsonl", "a.json"):
        rows = read(tmp_path / name, lines).rows
        assert [(row.fields, row.line) for row in rows] == [(ROWS[0], 1), (ROWS[1], 3)]
    assert [row.fields for row in read(tmp_path / "b.jsonl", json.dumps(ROWS)).rows] == ROWS


def test_json_lines_may_hold_unicode_line_separators(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "a.jsonl", '{"instruction": "a\u2028b\x85c"}\n').rows
    assert row.fields["instruction"] == "a\u2028b\x85c"


def test_every_bad_json_line_is_listed_with_column_excerpt_and_caret(tmp_path: Path) -> None:
    found = read(tmp_path / "a.jsonl", '{"a": 1}\n{"问题": 1;}\n[1]\n{"a" 2}\n')
    assert len(found.rows) == 1
    assert [row.place.rpartition(":")[2] for row in found.bad] == ["2", "3", "4"]
    detail = found.bad[0].detail.split("\n")
    assert detail[0].startswith("column 9")
    # the two Chinese characters before the caret are two columns wide each
    assert detail[1:] == ['{"问题": 1;}', " " * 10 + "^"]
    assert found.bad[1].reason == "it is not an object {...}"


def test_syntax_error_in_json_has_line_column_and_caret(tmp_path: Path) -> None:
    one = problem(tmp_path / "a.json", '[\n {"a": 1},\n {"a": “x}\n]')
    assert f"{tmp_path / 'a.json'}:3:8" in one.got
    line, caret = one.got.split("\n")[1:]
    assert line[caret.index("^")] == "“"
    assert "after the end" in problem(tmp_path / "a.json", '[{"a": 1}] x').got
    assert ":1:10: Expecting ','" in problem(tmp_path / "a.json", '[{"a":1} {"a":2}]').got
    assert "list of objects" in problem(tmp_path / "a.json", '"text"').got


def test_csv_and_tsv_with_quotes_line_breaks_and_other_separators(tmp_path: Path) -> None:
    comma = read(tmp_path / "a.csv", 'instruction,output\n"a, ""x""","l1\nl2"\n\nb,c\n')
    assert [row.fields for row in comma.rows] == [
        {"instruction": 'a, "x"', "output": "l1\nl2"},
        {"instruction": "b", "output": "c"},
    ]
    assert [row.line for row in comma.rows] == [2, 5]
    assert read(tmp_path / "b.csv", "instruction;output\na, b;c\n").rows[0].fields["instruction"] == "a, b"
    assert read(tmp_path / "a.tsv", "instruction\toutput\na\tb\n").rows[0].fields == {
        "instruction": "a",
        "output": "b",
    }


def test_csv_rows_with_another_number_of_cells_are_bad(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "a,b\n1,2\n1\n1,2,3\n")
    assert [(row.place.rpartition(":")[2], row.detail) for row in found.bad] == [
        ("3", "1 cells"),
        ("4", "3 cells"),
    ]
    quoted = read(tmp_path / "b.csv", 'a,b\n"1"x,2\n3,4\n')
    assert [row.line for row in quoted.rows] == [3]
    assert "quotes" in quoted.bad[0].reason


def test_parquet_rows_are_numbered(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet").rows
    assert [(row.fields, row.line) for row in rows] == [(ROWS[0], 1), (ROWS[1], 2)]
    assert "cannot be read as a Parquet file" in problem(tmp_path / "b.parquet", "nothing of the kind").what


def test_folder_reads_all_its_data_files(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(json.dumps(ROWS[1]))
    (tmp_path / "a.json").write_text(json.dumps(ROWS[:1]))
    (tmp_path / "README.md").write_text("x")
    assert [row.fields for row in read(tmp_path).rows] == ROWS
    (tmp_path / "empty").mkdir()
    assert "no data file" in problem(tmp_path / "empty").what


def test_rows_from_python_are_numbered() -> None:
    rows = read_source(SourceSettings(rows=ROWS)).rows
    assert [(row.source, row.line) for row in rows] == [("<python>", 1), ("<python>", 2)]


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("[]")
    assert problem(tmp_path / "identty.json").remedy == str(tmp_path / "identity.json")
    assert "folder" in problem(tmp_path / "nowhere" / "a.json").remedy


def test_empty_files_and_sets_are_refused(tmp_path: Path) -> None:
    for name, content in (("a.json", ""), ("b.jsonl", " \n"), ("c.json", "[]"), ("d.csv", "a,b\n")):
        one = problem(tmp_path / name, content)
        assert "is empty" in one.what or "holds no rows" in one.what


def test_unknown_kind_of_file_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    assert ".jsonl" in problem(tmp_path / "a.docx", "x").expected


def test_hub_set_that_cannot_be_had_is_a_data_error() -> None:
    with pytest.raises(DataError, match="cannot be downloaded"):
        read_source(SourceSettings(path="nobody-here/no-such-set"))


TURN = '{"role": "user", "content": "a"}'
SHARED_LINES = {
    "one line": ("a.json", '[{"a": 1}, {"a": 2}, {"a": 3}]', [", row 1", ", row 2", ", row 3"]),
    "one row": ("a.json", '[{"a": 1}]', [":1"]),
    "a line a row": ("a.json", '[{"a": 1},\n{"a": 2}\n, {"a": 3}]', [":1", ":2", ":3"]),
    "some share": (
        "a.json",
        '[{"a": 1},\n{"a": 2}, {"a": 3},\n{"a": 4}]',
        [":1", ":2, row 1", ":2, row 2", ":3"],
    ),
    "begins where one ends": ("a.json", '[{"a":\n1}, {"a": 2}]', [":1", ":2"]),
    "under a key": ("a.json", '{"n": 1, "data": [{"a": 1}, {"a": 2}]}', [", row 1", ", row 2"]),
    "no row among them": ("a.json", '[{"a": 1}, 7, {"a": 3}]', [", row 1", ", row 2", ", row 3"]),
    "not usable": (
        "a.json",
        '[{"a": 1}, {"a": ' + "9" * 5000 + '}, {"a": 3}]',
        [", row 1", ", row 2", ", row 3"],
    ),
    "one after the other": ("a.json", '{"a": 1} {"a": 2}\n{"a": 3}', [", row 1", ", row 2", ":2"]),
    "repaired": ("a.json", "[{'a': 1}, {'a': 2},]", [", row 1", ", row 2"]),
    "conversations": ("a.json", f"[{TURN}]\n[{TURN}][{TURN}]", [":1", ":2, row 1", ":2, row 2"]),
    "lines": (
        "a.jsonl",
        '{"a": 1}\n{"a": 2}{"a": 3} {"a": 4}\n',
        [":1", ":2, row 1", ":2, row 2", ":2, row 3"],
    ),
}


@pytest.mark.parametrize("case", SHARED_LINES)
def test_rows_that_share_a_line_are_numbered_on_it(case: str, tmp_path: Path) -> None:
    name, text, places = SHARED_LINES[case]
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    found = list(open_source(SourceSettings(path=str(file))))
    assert [row.place for row in found] == [f"{file}{place}" for place in places]


def test_json_nested_too_deeply_is_said_with_its_place(tmp_path: Path) -> None:
    for name in ("deep.json", "deep.jsonl"):
        file = tmp_path / name
        file.write_text("[" * 100_000 + "]" * 100_000, encoding="utf-8")
        try:
            problems = [row.reason + row.detail for row in read_source(SourceSettings(path=str(file))).bad]
        except DataError as error:
            problems = [str(error)]
        assert any("nested too deeply" in problem for problem in problems), problems
