"""JSON text to rows, read as a stream, each with the line it begins on; a syntax error is shown with line, column,
excerpt and a caret."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from functools import partial

from ..core.errors import DataError, Problem
from .bad_rows import BadRow
from .conversation import Row
from .json_window import Lines, Rest, Window
from .rows import Found

EXCERPT_CHARACTERS = 60
LONGEST_LINE = 1 << 26
"""Characters; a longer line is no row a model can be trained on, and would fill the memory."""
WHOLE_OBJECT = 1 << 22
"""Characters; a larger object at the beginning of a file is read piece by piece."""
_DECODER = json.JSONDecoder()


def json_rows(text: Lines, source: str, notes: list[str]) -> Found:
    """Yield the rows of a list of objects, of an object that holds exactly one list, or of objects one after the
    other; raises DataError."""
    window = Window(text)
    try:
        window.skip_space()
        if window.mark() == "[":
            yield from _list_rows(window, source)
            _require_end(window)
        elif window.mark() == "{":
            yield from _object_rows(window, source, notes)
        else:
            raise json.JSONDecodeError("Expecting a list of objects", window.text, window.at)
    except json.JSONDecodeError as error:
        raise DataError(_syntax_problem(window, error, source)) from error


def jsonl_rows(text: Lines, source: str, notes: list[str], first: int = 1) -> Found:
    """Yield an object a line; lines that are none are rows that cannot be used. A list is read as one.

    `first` is the number of the first line.
    """
    decode = _DECODER.raw_decode
    lines = iter(partial(text.readline, LONGEST_LINE), "")
    begun = False
    for number, line in enumerate(_whole_lines(lines, source, first), start=first):
        if isinstance(line, BadRow):
            yield line
            continue
        try:
            value, end = decode(line)
        except (json.JSONDecodeError, RecursionError):
            value, end = None, 0
        # Nearly every line is one object and a line break; whatever else it may be is looked at slowly.
        if end and type(value) is dict and end >= len(line) - 1 and (end == len(line) or line[end] == "\n"):
            begun = True
            yield Row(value, source, number)
        elif not begun and line.lstrip()[:1] == "[":
            yield from json_rows(Rest("\n" * (number - first) + line, text), source, notes)
            return
        elif line.strip():
            begun = True
            yield _careful(line, source, number)


def _whole_lines(lines: Iterator[str], source: str, first: int) -> Iterator[str | BadRow]:
    """Pass lines on; one that is too long comes as a row that cannot be used."""
    for number, line in enumerate(
        lines, start=first
    ):  # one too long is counted once: next() below skips its rest
        if len(line) < LONGEST_LINE or line.endswith("\n"):
            yield line
            continue
        while len(line) == LONGEST_LINE and not line.endswith("\n"):
            line = next(lines, "")
        yield BadRow(f"{source}:{number}", f"the line is longer than {LONGEST_LINE:,} characters")


def _careful(line: str, source: str, number: int) -> Row | BadRow:
    """Read a line that may hold anything, white space around it included."""
    stripped = line.rstrip()
    start = len(stripped) - len(stripped.lstrip())
    try:
        value, end = _DECODER.raw_decode(stripped, start)
        if end < len(stripped):
            raise json.JSONDecodeError("There is more behind the end", stripped, end)
    except json.JSONDecodeError as error:
        detail = f"column {error.colno}: {error.msg}\n{excerpt(stripped, error.colno)}"
        return BadRow(f"{source}:{number}", "the line is not JSON", detail)
    except RecursionError:
        return BadRow(f"{source}:{number}", "the line is not JSON", "It is nested too deeply")
    return _row(value, source, number, 0)


def excerpt(line: str, column: int) -> str:
    """Return the part of a line around a column (the first is 1), and below it a caret under that column."""
    start = max(0, column - 1 - EXCERPT_CHARACTERS // 2)
    shown = line[start : start + EXCERPT_CHARACTERS].rstrip("\r").replace("\t", " ")
    before = shown[: column - 1 - start]
    # Chinese and other wide characters take two columns of a terminal.
    width = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in before)
    return f"{shown}\n{' ' * width}^"


def _syntax_problem(window: Window, error: json.JSONDecodeError, source: str) -> Problem:
    """Describe a syntax error in a JSON file."""
    place = window.place(error.pos)
    shown = f"{source}:{place.line}:{place.column}: {error.msg}\n{excerpt(place.text, place.shown_column)}"
    if place.at_end or error.msg.startswith("Unterminated"):
        remedy = "the file ends too early: it may have been cut off, copy or download it again"
    else:
        remedy = (
            'mend the line: text stands in straight quotes ("), one comma separates items, none before ] or }'
        )
    return Problem(
        f"{source} is not JSON that can be read", shown, "a list of objects: [{...}, {...}]", remedy
    )


def _list_rows(window: Window, source: str) -> Found:
    """Yield the rows of the list that begins here; leaves the window behind it."""
    window.step()
    line = 0
    if window.skip_space() != "]":
        more = True
        while more:
            window.advance()
            here, column = window.line, window.at - window.line_begin + 1
            yield _row(window.value(), source, here, column if here == line else 0)
            line = here
            more = window.go_to_next()
    window.step()


def _object_rows(window: Window, source: str, notes: list[str]) -> Found:
    """Read an object: alone it holds the list, followed by others it is the first of the rows."""
    if window.longer_than(WHOLE_OBJECT):
        yield from _large_object(window, source, notes)
        return
    window.advance()
    start, first_line = window.at, window.line
    whole = window.value(keep_from=start)
    start = window.kept_from
    end_line = window.line_at(window.at)
    mark = window.skip_space(keep_from=start)
    start = window.kept_from
    if mark == "{":
        shape = "an object a line" if first_line == end_line else "objects one after the other"
        notes.append(f"{source} holds {shape} and was read as JSON lines")
        yield _row(whole, source, first_line, 0)
        yield from (_lines_after(window, source) if first_line == end_line else _values_after(window, source))
        return
    if mark:
        raise json.JSONDecodeError("There is more behind the end", window.text, window.at)
    if _is_row(whole):
        yield _row(whole, source, first_line, 0)
        return
    lists = [key for key, value in whole.items() if isinstance(value, list)]
    if len(lists) != 1:
        raise DataError(_no_list(whole, source))
    notes.append(f"{source}: the rows are the list under {lists[0]!r}")
    window.at = start
    yield from _rows_under(window, lists[0], source)


def _no_list(whole: dict[str, object], source: str) -> Problem:
    got = f"{source}: an object with " + (", ".join(map(repr, whole)) or "nothing")
    return Problem(f"{source} holds no list of rows", got, "a list of objects, or an object with one list")


def _is_row(whole: dict[str, object]) -> bool:
    """Whether an object with one list is itself a row of turns."""
    return any(
        isinstance(value, list) and value and isinstance(value[0], dict) and {"role", "from"} & set(value[0])
        for value in whole.values()
    )


def _lines_after(window: Window, source: str) -> Found:
    """Yield the rows of the lines behind the first, the window being at the second."""
    window.advance()
    yield from jsonl_rows(window.rest(), source, [], window.line)


def _values_after(window: Window, source: str) -> Found:
    """Yield objects that stand one after the other, over several lines each."""
    while window.skip_space():
        window.advance()
        line = window.line
        yield _row(window.value(), source, line, 0)


def _large_object(window: Window, source: str, notes: list[str]) -> Found:
    """Yield the list of rows in an object too large to be looked at whole; raises DataError for a second list."""
    lists: list[str] = []
    for key in _keys(window):
        if window.mark() != "[":
            window.value()
            continue
        lists.append(key)
        if len(lists) > 1:
            raise DataError(_no_list(dict.fromkeys(lists), source))
        yield from _list_rows(window, source)
    _require_end(window)
    if not lists:
        raise DataError(_no_list({}, source))
    notes.append(f"{source}: the rows are the list under {lists[0]!r}")


def _rows_under(window: Window, wanted: str, source: str) -> Found:
    """Yield the rows of the list under a key of the object that begins here."""
    for key in _keys(window):
        if key == wanted and window.mark() == "[":
            yield from _list_rows(window, source)
        else:
            window.value()


def _keys(window: Window) -> Iterator[str]:
    """Yield the keys of the object that begins here, the window at each one's value, which the caller reads."""
    window.step()
    mark = window.skip_space()
    while mark != "}":
        if mark != '"':
            raise json.JSONDecodeError("Expecting a name in double quotes", window.text, window.at)
        key = window.value()
        if window.skip_space() != ":":
            raise json.JSONDecodeError("Expecting ':'", window.text, window.at)
        window.step()
        window.skip_space()
        yield str(key)
        mark = window.skip_space()
        if mark == ",":
            window.step()
            mark = window.skip_space()
        elif mark != "}":
            raise json.JSONDecodeError("Expecting ',' or '}'", window.text, window.at)
    window.step()


def _require_end(window: Window) -> None:
    if window.skip_space():
        raise json.JSONDecodeError("There is more behind the end", window.text, window.at)


def _row(value: object, source: str, line: int, column: int) -> Row | BadRow:
    if isinstance(value, dict):
        return Row(value, source, line, column)
    shown = json.dumps(value, ensure_ascii=False)[:EXCERPT_CHARACTERS]
    return BadRow(f"{source}:{line}", "it is not an object {...}", shown)
