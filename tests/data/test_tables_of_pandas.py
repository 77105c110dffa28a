"""What pandas writes: lists as Python prints them in a CSV, NaN for an empty cell, tables without names."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from weitiao.core.errors import DataError
from weitiao.data.conversation import Conversation, Row
from weitiao.data.dataset import check_data
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError, unpacked
from weitiao.data.formats._python_text import LONGEST
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.settings import DataSettings

TALK = [{"role": "user", "content": 'What\'s "tin"?\n'}, {"role": "assistant", "content": "A metal \\ ore."}]


def table(path: Path, rows: list[dict[str, object]]) -> Gate:
    """Write rows as pandas writes a CSV, str() for what is no text, and bring them through the gate."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return open_data(DataSettings(sources=[str(path)], held_out=0))


def test_turns_as_python_prints_them_are_read(tmp_path: Path) -> None:
    gate = table(tmp_path / "a.csv", [{"messages": TALK, "id": 1}, {"messages": json.dumps(TALK), "id": 2}])
    talks = [gate.store.form(number) for number in range(2)]
    for talk in talks:
        assert isinstance(talk, Conversation)
        assert [(one.role, one.content) for one in talk.messages] == [(t["role"], t["content"]) for t in TALK]


def test_turns_as_text_are_turns_in_columns_of_preferences_too(tmp_path: Path) -> None:
    chosen, rejected = [{"content": text, "role": "assistant"} for text in "ab"]
    row = {"prompt": "q", "chosen": [chosen], "rejected": json.dumps([rejected])}
    form: Any = table(tmp_path / "a.csv", [row]).store.form(0)
    assert (form.chosen[0].content, form.rejected[0].content) == ("a", "b")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['a', 'b']", ["a", "b"]),
        ("[('a', 1), (None, True)]", [["a", 1], [None, True]]),
        ("['a' 'b'\n \"c's\"]", ["a", "b", "c's"]),
        ("[{'a': 1}\n {'a': [2, 3]} {'b': 'x'}]", [{"a": 1}, {"a": [2, 3]}, {"b": "x"}]),
        ("[['a', 'b'] ['c', 'd']]", [["a", "b"], ["c", "d"]]),
        ("[array(['a', 'b'], dtype=object)]", [["a", "b"]]),
        (
            "{'text': array(['a' 'b'],\n      dtype=object), 'n': array([1, 2])}",
            {"text": ["a", "b"], "n": [1, 2]},
        ),
        ("[  1   2 -100]", [1, 2, -100]),
        ("[-1.5  2. ]", [-1.5, 2.0]),
        ("[ True False None]", [True, False, None]),
        ("[array([1, 2]) array([3])]", [[1, 2], [3]]),
        (" {'a': -0.5} ", {"a": -0.5}),
    ],
)
def test_what_python_and_numpy_print_is_read(text: str, value: object) -> None:
    assert unpacked(text, "x") == value


@pytest.mark.parametrize(
    "text",
    [
        "[open('x')]", "[__import__('os')]", "[1 + 2j]", "[b'a']", "{1: 'a'}", "[{'a', 'b'}]", "['a' ... 'b']", "['a'",
        "[arrays(['a'])]", "[array('a', 'b')]", "[" * 3000, "[nan]", "['" + "x" * LONGEST + "']", "['a\n']",
    ],
)  # fmt: skip
def test_what_is_no_plain_value_is_refused(text: str) -> None:
    with pytest.raises(RowError, match="'x' is text that is not a JSON"):
        unpacked(text, "x")


def test_labels_in_a_cell_are_several(tmp_path: Path) -> None:
    for name in ("label", "labels"):
        gate = table(
            tmp_path / f"{name}.csv", [{"text": "x", name: ["a", "b"]}, {"text": "y", name: "['a']"}]
        )
        forms: list[Any] = [gate.store.form(number) for number in range(2)]
        assert [(form.labels, form.multi) for form in forms] == [(("a", "b"), True), (("a",), True)]
    form: Any = table(tmp_path / "a.csv", [{"text": "x", "label": "[CLS]"}]).store.form(0)
    assert form.labels == ("[CLS]",)


def test_rows_without_text_are_rows_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": NaN}\n{"text": null}\n{"text": "abc"}\n')
    gate = open_data(DataSettings(sources=[str(path)], held_out=0))
    assert dict(gate.tally.formats) == {"plain_text": 1} and len(gate.tally.bad) == 2


def test_nan_is_an_empty_cell_but_no_weight() -> None:
    alpaca, empty = FORMATS.load("alpaca")(), {"input": math.nan, "system": math.nan, "history": math.nan}
    row = {"instruction": "q", "output": "a"}
    plain = alpaca.parse_noting(Row(row, "x", 1))
    assert alpaca.parse_noting(Row({**row, **empty, "zzz": math.nan}, "x", 1)) == plain
    for name in ("weight", "loss_weight"):
        with pytest.raises(RowError, match="not a finite number"):
            alpaca.parse(Row({**row, name: math.nan}, "x", 1))
    with pytest.raises(RowError, match="null"):
        alpaca.parse(Row({**row, "output": math.nan}, "x", 1))


def test_nan_in_a_json_file_is_an_empty_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"instruction": "q", "input": NaN, "output": "a"}]')
    form = check_data(DataSettings(sources=path)).store.form(0)
    assert isinstance(form, Conversation) and form.messages[0].content == "q"


def refused(path: Path, text: str) -> str:
    """Write a file and return what checking it ends in."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        check_data(DataSettings(sources=path))
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "什么是锡,一种金属\n什么是姜,一种根\n",
        "翻译成法语：你好,bonjour\n翻译成法语：早,bonjour\n",
        "how warm is it,quite warm\nhow cold,very\n",
        "the film was a joy to watch,positive\nso slow,negative\n",
        "fine,good\nslow,bad\nquick,good\n",
    ],
)
def test_a_first_line_that_reads_as_a_row_is_named(text: str, tmp_path: Path) -> None:
    assert "seems to have no header" in refused(tmp_path / "a.csv", text)


def test_where_nothing_tells_both_ways_are_said(tmp_path: Path) -> None:
    said = refused(tmp_path / "a.csv", "apple,苹果\npear,梨\n")
    assert "fit no format" in said and "put a line of names above it" in said
    assert "put a line" not in refused(tmp_path / "b.jsonl", '{"apple": "x", "pear": "y"}\n')
