"""The window over JSON text, with a buffer of a few characters: wherever it ends, the rows and places are the same."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from weitiao.core.errors import DataError
from weitiao.data.conversation import Row
from weitiao.data.sources import json_buffer
from weitiao.data.sources.json_parser import JsonFile, json_rows

SIGNS = ["a", "\\", '"', "\n", "é", "字", "😀", "\ud800", " ", "{", "}", "[", "]", ",", ":", "u", "\t"]
NUMBERS = [0, -1, 12345678901234567890, 1.5e300, -0.1, 1e-7, float("inf"), float("-inf"), True, False, None]
SPACES = ["", "", "", " ", "\n", "\r\n", "\t \n   "]
BUFFERS = [(1, 0), (1, 1), (2, 3), (5, 100), (7, 4)]
"""(characters read at once, characters kept before the reading position)."""
USUAL = (json_buffer.BLOCK_CHARACTERS, json_buffer.KEPT_CHARACTERS)
SEEDS = 60
"""Of each buffer so many files are tried; thousands were while this was written."""


def drawn(rng: random.Random, levels: int = 3) -> Any:  # noqa: ANN401
    """Draw a JSON value."""
    kind = rng.randrange(6 if levels else 4)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind < 4:
        return "".join(rng.choices(SIGNS, k=rng.randrange(30)))
    count = rng.randrange(4)
    if kind == 4:
        return [drawn(rng, levels - 1) for _ in range(count)]
    return {f"k{n}": drawn(rng, levels - 1) for n in range(count)}


def file_of(rng: random.Random) -> tuple[str, list[dict[str, Any]]]:
    """Draw rows, and a file that holds them: a list, a list under a key, or objects one after the other."""
    rows = [{f"r{n}": drawn(rng) for n in range(rng.randrange(1, 3))} for _ in range(rng.randrange(2, 6))]
    indent = rng.choice([None, 0, 3])
    written = [json.dumps(row, ensure_ascii=rng.random() < 0.5, indent=indent) for row in rows]
    listed = [part for row in written for part in (row, ",")][:-1]
    shape = rng.randrange(3)
    if shape == 0:
        parts = ["[", *listed, "]"]
    elif shape == 1:
        parts = ["{", '"n"', ":", "1", ",", '"data"', ":", "[", *listed, "]", ",", '"z"', ":", '"x\\\\"', "}"]
    else:
        return "".join(f"{row}{rng.choice([' ', chr(10), ' ' + chr(10)])}" for row in written), rows
    return "".join(part + rng.choice(SPACES) for part in ["", *parts]), rows


def read(text: str, buffer: tuple[int, int], patch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Return place and content of each row; an error is its place and message, without the excerpt."""
    patch.setattr(json_buffer, "BLOCK_CHARACTERS", buffer[0])
    patch.setattr(json_buffer, "KEPT_CHARACTERS", buffer[1])
    try:
        found = json_rows(io.StringIO(text, newline=""), JsonFile("f"))
        return [(one.place, one.fields if isinstance(one, Row) else one.reason) for one in found]
    except DataError as error:
        (problem,) = error.problems
        return [(problem.got.partition("\n")[0], problem.remedy)]


@pytest.mark.parametrize("buffer", BUFFERS, ids=str)
def test_a_buffer_that_ends_anywhere_changes_nothing(
    buffer: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(SEEDS):
        text, rows = file_of(random.Random(seed))
        found = read(text, buffer, monkeypatch)
        assert found == read(text, USUAL, monkeypatch), text
        assert [content for _, content in found] == rows, text


@pytest.mark.parametrize("buffer", BUFFERS, ids=str)
def test_a_fault_is_found_at_the_same_place(buffer: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(SEEDS):
        rng = random.Random(seed)
        text, _ = file_of(rng)
        at = rng.randrange(len(text))
        wrong = rng.choice(["", "x", '"', "}", "]", "{", ",", "\\", "\n"])
        text = text[:at] + wrong + text[at + rng.randrange(2) :]
        assert read(text, buffer, monkeypatch) == read(text, USUAL, monkeypatch), text


def test_a_fault_at_the_end_of_the_file_has_its_own_column(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{\n"b": 1}\n{\n"a": "' + "x" * 30 + '"\n}x '
    for buffer in (*BUFFERS, USUAL):
        ((got, _),) = read(text, buffer, monkeypatch)
        assert got == "f:5:2: Expecting value"


def test_lines_are_counted_on_where_json_lines_turn_into_json() -> None:
    text = '{"a": 1}\n{\n"a": 2\n}\n{"a": 3}'
    assert [row.place for row in json_rows(io.StringIO(text), JsonFile("f"))] == ["f:1", "f:2", "f:5"]
