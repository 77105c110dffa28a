"""JSON as people paste it from tutorials is read, with one note a file; text in quotes is never touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weitiao.core.errors import DataError
from weitiao.data.settings import SourceSettings
from weitiao.data.sources.json_buffer import BLOCK_CHARACTERS
from weitiao.data.sources.json_parser import JsonFile, json_rows
from weitiao.data.sources.json_repair import repaired
from weitiao.data.sources.sources import read_source
from weitiao.data.sources.stream import Rows

ROW = {"a": 1}
PASTED: dict[str, tuple[str, Any, str]] = {
    # what: (text, the rows it means, what the note says)
    "a comment behind a value": (
        '[{"a": "", //可省略\n "b": "http://x//y#z /* no */"}]',
        [{"a": "", "b": "http://x//y#z /* no */"}],
        "comments (1, first in line 1)",
    ),
    "a comment over lines": ('/* head\n, ] } */ [{"a": 1}] # end', [ROW], "comments (2, first in line 1)"),
    "a comment between a comma and its bracket": (
        '[{"a": 1, // last\n}, # more\n]',
        [ROW],
        "trailing commas (2, first in line 1)",
    ),
    "full-width quotes": (
        '[{“a”: “he said “hi” and "ho"”, "b": "“x”：，"}]',
        [{"a": 'he said “hi” and "ho"', "b": "“x”：，"}],
        "full-width quotes (2,",
    ),
    "full-width punctuation": (
        '［｛"a"：1，"b"：［2，3］｝］',
        [{"a": 1, "b": [2, 3]}],
        "full-width punctuation (10,",
    ),
    "quotes that all open": ("[{“a“: 1}]", [ROW], "full-width quotes"),
    "an escaped full-width quote": ("[{“a”: “\\”x\\“”}]", [{"a": '"x"'}], "full-width quotes"),
    "Python's own writing": (
        repr(
            [
                {
                    "a": 'it\'s "x"\x80\n',
                    "b": None,
                    "c": [True, False],
                    "d": "it's",
                    "e": "\\",
                    "f": "\U0001f600\x01",
                }
            ]
        ),
        [
            {
                "a": 'it\'s "x"\x80\n',
                "b": None,
                "c": [True, False],
                "d": "it's",
                "e": "\\",
                "f": "\U0001f600\x01",
            }
        ],
        "single quotes (9,",
    ),
    "a fence of Markdown": ('```json\n[{"a": 1}]\n```\n', [ROW], "``` lines (2,"),
    "blanks of other kinds": ('[\u3000{"a":\u00a01}]\u200b', [ROW], "unusual white space (3,"),
    "objects with commas between": (
        '{"a": 1},\n{"a":\n 1},\n',
        [ROW, ROW],
        "trailing commas (1,",
    ),
}


def read(path: Path, text: str) -> Rows:
    """Write a file and read it."""
    path.write_text(text, encoding="utf-8")
    return read_source(SourceSettings(path=str(path)))


@pytest.mark.parametrize("what", PASTED)
def test_what_people_paste_is_read_with_one_note(what: str, tmp_path: Path) -> None:
    text, rows, said = PASTED[what]
    found = read(tmp_path / "a.json", text)
    assert [row.fields for row in found.rows] == rows
    assert not found.bad
    (note,) = [one for one in found.notes if "not strict JSON" in one]
    assert said in note


@pytest.mark.parametrize(
    "text",
    [
        "[{'a': 'it's'}]",
        '[{"a": "he said "hi" // there"}]',
        '[{“a": 1}]',
        '[{"a": “x}]\n”]',
        '[{"a": 1 /* open }]',
        "[{a: 1}]",
        '[{"a": 1} {"a": 2}] // c',
        '[{"a": 1},, {"a": 2}]',
    ],
)
def test_what_may_mean_two_things_stays_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read(tmp_path / "a.json", text)


def test_the_error_that_is_shown_is_the_one_that_remains(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json:3:6: Expecting ':'"):
        read(tmp_path / "a.json", '[{"a": 1}, // fine\n{"a": 2,},\n{"a" 3}]')


def test_lines_are_mended_one_by_one(tmp_path: Path) -> None:
    lines = '// first\n{"a": 1}, // one\n{"a": bad} // two\n\n# three\n{"a": 1}\n{“a”：1}\n'
    found = read(tmp_path / "a.jsonl", lines)
    assert [(row.fields, row.line) for row in found.rows] == [(ROW, 2), (ROW, 6), (ROW, 7)]
    assert [bad.place.rpartition(":")[2] for bad in found.bad] == ["3"]
    assert "column 7: Expecting value" in found.bad[0].detail
    (note,) = found.notes
    assert "comments (3, first in line 1)" in note


def test_rows_far_into_a_file_keep_their_places_and_come_once(tmp_path: Path) -> None:
    objects = [{"n": n, "t": "字，“x” // y" * (n % 90)} for n in range(5000)]
    text = "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in objects) + ",\n // end\n]\n"
    assert len(text) > 2 * BLOCK_CHARACTERS
    rows = read(tmp_path / "a.json", text).rows
    assert [row.fields for row in rows] == objects
    assert [row.line for row in rows] == list(range(2, 5002))


WORD = st.text(alphabet="ab\"'\\/*#,:[]{}“”，：\n\t TrueNone", max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(value=JSON)
def test_strict_json_is_left_as_it_is(value: Any) -> None:  # noqa: ANN401
    text = json.dumps(value, ensure_ascii=False)
    assert repaired(text, 1)[0] == text
    assert not repaired(text, 1)[1].found
    assert json.loads(repaired(repr(value), 1)[0]) == value


class Once:
    """A file that may be read through but once."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self, size: int) -> str:
        """Return the next characters."""
        text, self._text = self._text[:size], self._text[size:]
        return text

    def readline(self, size: int) -> str:
        """Return no line: strict JSON is not read by lines."""
        raise AssertionError("strict JSON was read by lines")


def test_strict_json_is_read_by_the_decoder_alone() -> None:
    file = JsonFile("x")
    assert len(list(json_rows(Once(json.dumps([ROW] * 9)), file))) == 9
    assert not file.all_notes()
