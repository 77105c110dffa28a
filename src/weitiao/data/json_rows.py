"""JSON text to rows, each with the line it begins on; a syntax error is shown with line, column, excerpt and
a caret."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from ..core.errors import DataError, Problem
from .bad_rows import BadRow
from .conversation import Row
from .rows import Rows

EXCERPT_CHARACTERS = 60
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")

Placed = tuple[Any, int]
"""A value and the index of its first character."""


def json_rows(text: str, source: str) -> Rows:
    """Read a list of objects, an object that holds exactly one list, or an object a line; raises
    DataError."""
    start = _skip_space(text, 0)
    try:
        if text[start : start + 1] == "[":
            placed, end = _elements(text, start)
            _require_end(text, end)
            return _as_rows(placed, text, source)
        if text[start : start + 1] == "{":
            return _object_or_lines(text, start, source)
        raise json.JSONDecodeError("Expecting a list of objects", text, start)
    except json.JSONDecodeError as error:
        raise DataError(syntax_problem(error, source)) from error


def jsonl_rows(text: str, source: str) -> Rows:
    """Read an object a line; lines that are none become bad rows, all of them."""
    if text[_skip_space(text, 0) :][:1] == "[":
        return json_rows(text, source)
    rows = Rows()
    # str.splitlines would also split at U+2028 and others, which may stand inside JSON text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value, end = _decode(line, _skip_space(line, 0))
            _require_end(line, end)
            _add(rows, value, source, number)
        except json.JSONDecodeError as error:
            detail = f"column {error.colno}: {error.msg}\n{excerpt(line, error.colno)}"
            rows.bad.append(BadRow(f"{source}:{number}", "the line is not JSON", detail))
    return rows


def syntax_problem(error: json.JSONDecodeError, source: str) -> Problem:
    """Describe a syntax error in a JSON file."""
    line = error.doc.split("\n")[error.lineno - 1]
    shown = f"{source}:{error.lineno}:{error.colno}: {error.msg}\n{excerpt(line, error.colno)}"
    remedy = (
        'mend the line: text stands in straight quotes ("), one comma separates items, none before ] or }'
    )
    return Problem(
        f"{source} is not JSON that can be read", shown, "a list of objects: [{...}, {...}]", remedy
    )


def excerpt(line: str, column: int) -> str:
    """Return the part of a line around a column (the first is 1), and below it a caret under that column."""
    start = max(0, column - 1 - EXCERPT_CHARACTERS // 2)
    shown = line[start : start + EXCERPT_CHARACTERS].rstrip("\r").replace("\t", " ")
    before = shown[: column - 1 - start]
    # Chinese and other wide characters take two columns of a terminal.
    width = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in before)
    return f"{shown}\n{' ' * width}^"


def _skip_space(text: str, index: int) -> int:
    found = _SPACE.match(text, index)
    return found.end() if found else index


def _decode(text: str, at: int) -> tuple[Any, int]:
    """Read one value; raises JSONDecodeError, for nesting too deep as well."""
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError as error:
        raise json.JSONDecodeError("It is nested too deeply", text, at) from error


def _elements(text: str, start: int) -> tuple[list[Placed], int]:
    """Read the list that begins at `start`; return its elements and the index behind it."""
    found: list[Placed] = []
    at = _skip_space(text, start + 1)
    if text[at : at + 1] == "]":
        return found, at + 1
    while True:
        value, end = _decode(text, at)
        found.append((value, at))
        at = _skip_space(text, end)
        mark = text[at : at + 1]
        if mark == "]":
            return found, at + 1
        if mark != ",":
            raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
        at = _skip_space(text, at + 1)


def _object_or_lines(text: str, start: int, source: str) -> Rows:
    """Read an object: alone it holds the list, followed by another it is the first line of JSON lines."""
    whole, end = _decode(text, start)
    following = _skip_space(text, end)
    if text[following : following + 1] == "{":
        rows = jsonl_rows(text, source)
        rows.notes.append(f"{source} holds an object a line and was read as JSON lines")
        return rows
    _require_end(text, end)
    if _is_row(whole):
        return _as_rows([(whole, start)], text, source)
    lists = [key for key, value in whole.items() if isinstance(value, list)]
    if len(lists) != 1:
        got = f"{source}: an object with " + (", ".join(map(repr, whole)) or "nothing")
        raise DataError(
            Problem(f"{source} holds no list of rows", got, "a list of objects, or an object with one list")
        )
    rows = _as_rows(_list_of(text, start, lists[0]), text, source)
    rows.notes.append(f"{source}: the rows are the list under {lists[0]!r}")
    return rows


def _is_row(whole: dict[str, Any]) -> bool:
    """Whether an object with one list is itself a row of turns."""
    return any(
        isinstance(value, list) and value and isinstance(value[0], dict) and {"role", "from"} & set(value[0])
        for value in whole.values()
    )


def _list_of(text: str, start: int, wanted: str) -> list[Placed]:
    """Return the placed elements of the list under a key of the (valid) object that begins at `start`."""
    at = _skip_space(text, start + 1)
    while True:
        key, end = _decode(text, at)
        value_at = _skip_space(text, _skip_space(text, end) + 1)
        if key == wanted and text[value_at] == "[":
            return _elements(text, value_at)[0]
        _, end = _decode(text, value_at)
        at = _skip_space(text, _skip_space(text, end) + 1)


def _require_end(text: str, end: int) -> None:
    at = _skip_space(text, end)
    if at < len(text):
        raise json.JSONDecodeError("There is more behind the end", text, at)


def _as_rows(placed: list[Placed], text: str, source: str) -> Rows:
    rows = Rows()
    line, counted_to = 1, 0
    for value, index in placed:
        new_lines = text.count("\n", counted_to, index)
        shares_line = counted_to > 0 and new_lines == 0
        column = index - text.rfind("\n", 0, index) if shares_line else 0
        line, counted_to = line + new_lines, index
        _add(rows, value, source, line, column)
    return rows


def _add(rows: Rows, value: object, source: str, line: int, column: int = 0) -> None:
    if isinstance(value, dict):
        rows.rows.append(Row(value, source, line, column))
    else:
        shown = json.dumps(value, ensure_ascii=False)[:EXCERPT_CHARACTERS]
        rows.bad.append(BadRow(f"{source}:{line}", "it is not an object {...}", shown))
