"""JSON that is no list of objects: read where its meaning is sure, otherwise named for what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weitiao.core.errors import DataError
from weitiao.data.settings import SourceSettings
from weitiao.data.sources import json_values
from weitiao.data.sources.sources import read_source
from weitiao.data.sources.stream import Rows

ASKED = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SAID = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
ROW = {"instruction": "q", "output": "a"}


def read(path: Path, *values: object, between: str = "\n") -> Rows:
    """Write values one after the other and read the file."""
    path.write_text(between.join(json.dumps(value) for value in values), encoding="utf-8")
    return read_source(SourceSettings(path=str(path)))


def refused(path: Path, *values: object) -> str:
    """Return what reading a file of values is refused with."""
    with pytest.raises(DataError) as caught:
        read(path, *values)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("between", ["\n", "\n\n", " \n"])
def test_a_list_of_turns_a_line_is_a_conversation_a_row(name: str, between: str, tmp_path: Path) -> None:
    rows = read(tmp_path / name, ASKED, SAID, ASKED, between=between).rows
    assert [row.fields for row in rows] == [{"messages": ASKED}, {"conversations": SAID}, {"messages": ASKED}]
    step = between.count("\n")
    assert [row.line for row in rows] == [1, 1 + step, 1 + 2 * step]


def test_lists_of_lists_of_turns_are_conversations(tmp_path: Path) -> None:
    assert [row.fields for row in read(tmp_path / "a.json", [ASKED, SAID]).rows] == [
        {"messages": ASKED},
        {"conversations": SAID},
    ]
    under = read(tmp_path / "b.json", {"conversations": [SAID, SAID]})
    assert [row.fields for row in under.rows] == [{"conversations": SAID}] * 2
    assert "'conversations'" in under.notes[0]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_that_is_one_list_of_turns_is_one_conversation(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ASKED, indent=indent))
    found = read_source(SourceSettings(path=str(path)))
    assert [row.fields for row in found.rows] == [{"messages": ASKED}]
    assert "one conversation" in found.notes[0]


def test_turns_that_are_rows_are_refused_by_what_they_are(tmp_path: Path) -> None:
    assert "single turns, not conversations" in refused(tmp_path / "a.json", ASKED * 1500)
    assert "single turns, not conversations" in refused(tmp_path / "a.json", [*ASKED, ROW])


def test_a_dict_of_splits_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path / "a.json", {"test": [ROW], "Train": [ROW]})
    assert "holds 2 splits of a data set (test, Train)" in said
    assert "data.sources=Train.json data.held_out_path=test.json" in said
    assert "no list of rows" in refused(tmp_path / "a.json", {"train": [ROW], "cats": [ROW]})


@pytest.mark.parametrize("more", [{}, {"history": [["a", "b"]]}, {"tags": ["x"]}])
def test_one_row_is_named(more: dict[str, object], tmp_path: Path) -> None:
    said = refused(tmp_path / "a.json", {**ROW, **more})
    assert "holds one row, not a list of rows" in said
    assert "put [ before it and ] after it" in said


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_objects_without_anything_between_are_rows(name: str, tmp_path: Path) -> None:
    rows = [{**ROW, "n": n} for n in range(4)]
    found = read(tmp_path / name, *rows, between="")
    assert [row.fields for row in found.rows] == rows
    assert len({row.place for row in found.rows}) == 4
    assert len(found.notes) == 1


def test_files_that_were_joined_without_a_line_break_lose_no_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(ROW) for _ in range(3)) * 2)
    found = read_source(SourceSettings(path=str(path)))
    assert len(found.rows) == 6
    assert found.notes == [f"{path}: 1 lines hold several objects (first line 3); each is a row"]


def test_objects_over_several_lines_are_read_under_jsonl_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(ROW, indent=1) for _ in range(3)))
    assert [row.line for row in read_source(SourceSettings(path=str(path))).rows] == [1, 5, 9]


HUGE = "9" * 5000
DEEP = "[" * 300 + "]" * 300
DEEPEST = "[" * 30_000 + "]" * 30_000


@pytest.mark.parametrize(
    ("value", "said"), [(HUGE, "4,300 digits"), ("-" + HUGE, "4,300"), (DEEP, "deeper than 100")]
)
@pytest.mark.parametrize("form", ["[%s,\n%s]", "%s\n%s", "%s %s", '{"data": [%s,\n%s]}'])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_value_that_python_cannot_make_is_one_bad_row(
    value: str, said: str, form: str, name: str, tmp_path: Path
) -> None:
    if form.startswith('{"') and name == "a.jsonl":
        return
    path = tmp_path / name
    path.write_text(form % ('{"a": {"b": ' + value + "}}", '{"a": 1}'))
    found = read_source(SourceSettings(path=str(path)))
    assert [row.fields for row in found.rows] == [{"a": 1}]
    assert [said in bad.reason for bad in found.bad] == [True]
    assert found.bad[0].place == (f"{path}, row 1" if form == "%s %s" else f"{path}:1")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_nesting_beyond_what_the_decoder_takes_is_said(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    deep = '{"a": ' + DEEPEST + "}"
    path.write_text(f"[{deep}]" if name == "a.json" else '{"a": 1}\n' + deep)
    try:
        said = "".join(bad.detail for bad in read_source(SourceSettings(path=str(path))).bad)
    except DataError as error:
        said = str(error)
    assert "nested too deeply" in said


def test_depth_is_counted_whatever_stands_in_it() -> None:
    most = json_values.MOST_LEVELS
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        values = json_values.ValueDecoder()
        values.decode(opening * most + "1" + closing * most)
        with pytest.raises(json_values.UnusableValue):
            values.decode(opening * (most + 1) + "1" + closing * (most + 1))
    values.decode('{"m": [' + ",".join(['{"a": []}'] * 500) + "]}")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_keys_given_twice_are_noted_once_with_count_and_place(name: str, tmp_path: Path) -> None:
    lines = [
        '{"a": 1, "b": {"c": 1}}',
        '{"a": 1, "b": {"c": 1, "c": 2}}',
        '{"a": 1, "a": 3}',
        '{"a": "\\"a\\":"}',
    ]
    path = tmp_path / name
    path.write_text("[" + ",\n".join(lines) + "]" if name == "a.json" else "\n".join(lines))
    found = read_source(SourceSettings(path=str(path)))
    assert [row.fields["a"] for row in found.rows] == [1, 1, 3, '"a":']
    assert found.notes == [
        f"{path}: a key appears twice in 2 rows (first 'c', line 2); its last value was used"
    ]
