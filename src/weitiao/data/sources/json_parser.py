"""A streaming JSON parser that yields rows with their line numbers; syntax errors show line, column, excerpt and a
caret."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import chain, islice

from ...core.errors import DataError, Problem
from ..bad_rows import BadRow, Found
from ..conversation import Row, place_of
from .json_buffer import Lines, Place, Rest, Window
from .json_repair import Pasted, Repairs, repaired
from .json_shapes import (
    EXCERPT_CHARACTERS,
    SERVED,
    is_conversation,
    lists_of_rows,
    no_list,
    row_of,
    served_note,
    turns_column,
    unusable,
)
from .json_values import UnusableValue, ValueDecoder

LONGEST_LINE = 1 << 26
"""Characters; a longer line cannot be a row to train on, and would fill the memory."""
WHOLE_OBJECT = 1 << 22
"""Characters; a longer object at the beginning of a file is parsed key by key, not as a whole."""


class JsonSyntaxError(DataError):
    """A file that is not valid JSON."""

    def __init__(self, problem: Problem, place: Place) -> None:
        self.place = place
        super().__init__(problem)

    @property
    def reach(self) -> tuple[int, int]:
        """The position up to which the file is valid: (line, column)."""
        return self.place.line, self.place.column


class JsonFile:
    """The state of parsing one file: its name, the value decoder, repairs and notes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.values, self.repairs = ValueDecoder(), Repairs()
        self.notes: list[str] = []
        self.reached = 1
        """The line where the last row read begins."""
        self.shared_lines: list[int] = []
        """The numbers of lines that hold several objects, in JSON lines."""

    def row(self, value: object, line: int) -> Row | BadRow:
        """Return the row of the value decoded last."""
        self.values.seen_at(f"line {line}")
        return row_of(value, self.source, line)

    def with_number(self, row: Row | BadRow, line: int, number: int) -> Row | BadRow:
        """Return a row that shares its line, with its number on that line."""
        if isinstance(row, Row):
            return replace(row, number=number)
        return replace(row, place=place_of(self.source, line, number))

    def all_notes(self) -> list[str]:
        """Return the notes for the user about the file."""
        notes = [*self.notes, *self.values.notes(self.source), self.repairs.note(self.source)]
        if shared := self.shared_lines:
            notes.append(
                f"{self.source}: {len(shared)} lines hold several objects (first line {shared[0]}); each is a row"
            )
        return [note for note in notes if note]


RowsOf = Callable[[Lines, JsonFile], Found]


def read_leniently(
    open_file: Callable[[], AbstractContextManager[Lines]], rows_of: RowsOf, source: str, notes: list[str]
) -> Found:
    """Yield the rows of a file that is strict JSON, or becomes so with `Repairs`; raises DataError.

    Repairs are slow, so they begin only where strict parsing fails. The file is then read again from its beginning:
    lines before that of the last row stay unrepaired, and rows that were already yielded are skipped.
    """
    strict, given = JsonFile(source), 0
    try:
        with open_file() as text:
            for one in rows_of(text, strict):
                given += 1
                yield one
            notes += strict.all_notes()
            return
    except JsonSyntaxError as error:
        failed = error
    lenient = JsonFile(source)
    try:
        with open_file() as text:
            pasted = Pasted(text, lenient.repairs, strict.reached)
            yield from islice(rows_of(pasted, lenient), given, None)
    except JsonSyntaxError as error:
        raise (error if error.reach > failed.reach else failed) from error
    notes += lenient.all_notes()


def json_rows(text: Lines, file: JsonFile) -> Found:
    """Yield the rows of a list of objects, of an object with exactly one list, or of concatenated objects; raises
    DataError."""
    window = Window(text, file.values)
    try:
        window.skip_space()
        if window.mark() == "[":
            yield from _numbered(_whole_list(window, file), file)
        elif window.mark() == "{":
            yield from _object_rows(window, file)
        else:
            raise json.JSONDecodeError("Expecting a list of objects", window.text, window.at)
    except json.JSONDecodeError as error:
        raise _syntax_error(window, error, file.source) from error
    except UnusableValue as error:
        raise DataError(
            Problem(f"{file.source} cannot be used: {error.reason}", f"{file.source}:1")
        ) from error


def jsonl_rows(text: Lines, file: JsonFile, first: int = 1) -> Found:
    """Yield one object per line; invalid lines become bad rows.

    A file that begins with a list of rows, or with an object over several lines, is read as JSON. `first` is the number
    of the first line.
    """
    source, values = file.source, file.values
    lines = iter(partial(text.readline, LONGEST_LINE), "")
    begun = False
    for number, line in enumerate(_whole_lines(lines, source, first), start=first):
        if isinstance(line, BadRow):
            yield line
            continue
        try:
            value, end = values.decode(line)
        except (json.JSONDecodeError, UnusableValue):
            value, end = None, 0
        # Fast path: nearly every line is one object and a line break.
        is_row = type(value) is dict and SERVED not in value
        if end and is_row and end >= len(line) - 1 and (end == len(line) or line[end] == "\n"):
            begun = True
            if values.twice:
                values.seen_at(f"line {number}")
            yield Row(value, source, number)
        elif not begun and _goes_over_lines(line, value):
            yield from json_rows(Rest("\n" * (number - 1) + line, text), file)
            return
        elif line.strip():
            for one in _careful(line, number, file):
                begun = True
                yield one


def _goes_over_lines(line: str, value: object) -> bool:
    """Return whether the first line begins a list of rows, or an object over several lines."""
    begin = line.strip()
    return begin == "{" or (begin[:1] == "[" and not turns_column(value))


def _whole_lines(lines: Iterator[str], source: str, first: int) -> Iterator[str | BadRow]:
    """Yield lines; a line that is too long becomes a bad row."""
    # A long line arrives in several pieces but counts once: next() below skips the other pieces.
    for number, line in enumerate(lines, start=first):
        if len(line) < LONGEST_LINE or line.endswith("\n"):
            yield line
            continue
        while len(line) == LONGEST_LINE and not line.endswith("\n"):
            line = next(lines, "")
        yield BadRow(f"{source}:{number}", f"the line is longer than {LONGEST_LINE:,} characters")


def _careful(line: str, number: int, file: JsonFile) -> Found:
    """Yield the rows of an unusual line: white space, several objects, or JSON to repair; none for a comment."""
    try:
        yield from _values_of_line(line.rstrip(), number, file)
        return
    except json.JSONDecodeError as error:
        failed = error
    mended, repairs = repaired(line, number)
    try:
        yield from _values_of_line(mended.rstrip(), number, file)
        file.repairs.add(repairs)
    except json.JSONDecodeError:
        detail = f"column {failed.colno}: {failed.msg}\n{excerpt_around(failed.doc, failed.colno)}"
        yield BadRow(f"{file.source}:{number}", "the line is not JSON", detail)


def _values_of_line(line: str, number: int, file: JsonFile) -> list[Row | BadRow]:
    """Return the rows of a line; raises JSONDecodeError if any part of it is not JSON."""
    rows: list[Row | BadRow] = []
    at = len(line) - len(line.lstrip())
    while at < len(line):
        if rows and line[at] != "{":
            raise json.JSONDecodeError("There is more text after the end", line, at)
        try:
            value, end = file.values.decode(line, at)
            rows.append(file.row(value, number))
        except UnusableValue as error:
            end = error.end
            rows.append(unusable(error, file.source, number))
        at = len(line) - len(line[end:].lstrip())
    if len(rows) < 2:
        return rows
    file.shared_lines.append(number)
    return [file.with_number(row, number, count) for count, row in enumerate(rows, start=1)]


def excerpt_around(line: str, column: int) -> str:
    """Return the part of a line around a column (counted from 1), with a caret under that column on the next line."""
    start = max(0, column - 1 - EXCERPT_CHARACTERS // 2)
    shown = line[start : start + EXCERPT_CHARACTERS].rstrip("\r").replace("\t", " ")
    before = shown[: column - 1 - start]
    # Chinese and other wide characters take two columns in a terminal.
    width = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in before)
    return f"{shown}\n{' ' * width}^"


USUAL_REMEDY = (
    'correct the line: text is put in straight quotes ("), one comma separates items, none before ] or }'
)
REMEDIES = {
    "Invalid control character": "correct the line: inside a text, a line break is written \\n, a tab \\t",
    "Invalid \\": "correct the line: inside a text, a backslash is written twice, as in C:\\\\data and \\\\frac",
}
"""The beginning of a syntax error's message -> the remedy."""


def _syntax_error(window: Window, error: json.JSONDecodeError, source: str) -> JsonSyntaxError:
    """Return the error to raise for a syntax error in a JSON file."""
    place = window.place(error.pos)
    shown = (
        f"{source}:{place.line}:{place.column}: {error.msg}\n{excerpt_around(place.text, place.shown_column)}"
    )
    if place.at_end or error.msg.startswith("Unterminated"):
        remedy = "the file ends too early and may be incomplete: copy or download it again"
    else:
        remedy = next(
            (said for begins, said in REMEDIES.items() if error.msg.startswith(begins)), USUAL_REMEDY
        )
    what, expected = f"{source} cannot be read as JSON", "a list of objects: [{...}, {...}]"
    return JsonSyntaxError(Problem(what, shown, expected, remedy), place)


def _whole_list(window: Window, file: JsonFile) -> Found:
    """Yield the rows of a file that is one list; a list of turns is one row."""
    rows = _list_rows(window, file)
    first = next(rows, None)
    if isinstance(first, Row) and turns_column([first.fields]):
        yield from _conversation_or_rows(first, rows, file)
    elif first is not None:
        yield first
        yield from rows
    if window.skip_space() == "[":
        yield from _lists_after(window, file)
    _require_end(window)


def _conversation_or_rows(first: Row, rows: Found, file: JsonFile) -> Found:
    """Yield one conversation whose turns are the elements of the list; raises DataError if they are too many, or not
    all turns."""
    turns = [first, *islice(rows, MOST_TURNS)]
    fields = [one.fields for one in turns if isinstance(one, Row)]
    column = turns_column(fields)
    if len(turns) > MOST_TURNS or len(fields) < len(turns) or not column:
        what = f"the rows of {file.source} are single turns, not conversations"
        expected = 'one conversation per row: {"messages": [{...}, {...}]}'
        raise DataError(Problem(what, f"{first.place}: {', '.join(first.fields)}", expected))
    file.notes.append(
        f"{file.source} is one conversation, a list of {len(turns)} turns, and was read as one row"
    )
    yield Row({column: fields}, file.source, first.line)


MOST_TURNS = 2000
"""A longer list of turns is not taken for one conversation."""


def _lists_after(window: Window, file: JsonFile) -> Found:
    """Yield concatenated conversations, each a list of turns."""
    while window.skip_space() == "[":
        yield _next_row(window, file)


def _list_rows(window: Window, file: JsonFile) -> Found:
    """Yield the rows of the list that begins here, and move the window past it."""
    window.step()
    if window.skip_space() != "]":
        more = True
        while more:
            yield _next_row(window, file)
            more = window.go_to_next()
    window.step()


def _next_row(window: Window, file: JsonFile) -> Row | BadRow:
    """Parse the value that begins here as a row; raises JSONDecodeError."""
    window.advance()
    line = window.line
    try:
        value = window.value()
        file.reached = line
        return file.row(value, line)
    except UnusableValue as error:
        file.reached = line
        return unusable(error, file.source, line)


def _numbered(rows: Found, file: JsonFile) -> Found:
    """Yield rows, those that share a line with their number on it.

    A row is held back until the next one shows whether it shares its line.
    """
    held: Row | BadRow | None = None
    line, number = 0, 1
    for row in rows:
        here = row.line if isinstance(row, Row) else file.reached
        if held is not None:
            yield file.with_number(held, line, number) if number > 1 or here == line else held
        held, line, number = row, here, number + 1 if here == line else 1
    if held is not None:
        yield file.with_number(held, line, number) if number > 1 else held


def _object_rows(window: Window, file: JsonFile) -> Found:
    """Yield the rows of a file that begins with an object: alone it holds the list of rows; followed by other objects
    it is the first row."""
    if window.longer_than(WHOLE_OBJECT):
        yield from _large_object(window, file)
        return
    window.advance()
    start, first_line = window.at, window.line
    whole, first = _first_object(window, file, start)
    start = window.kept_from
    end_line = window.line_at(window.at)
    mark = window.skip_space(keep_from=start)
    start = window.kept_from
    if mark in ("{", ",") and first is not None:
        # Read on line by line only if the first object has a line of its own.
        same_line = mark == "{" and first_line == end_line < window.line_at(window.at)
        shape = "one object per line" if same_line else "concatenated objects"
        file.notes.append(f"{file.source} holds {shape} and was read as JSON lines")
        if same_line:
            yield first
            yield from _lines_after(window, file)
        else:
            yield from _numbered(chain([first], _values_after(window, file)), file)
        return
    if mark:
        raise json.JSONDecodeError("There is more text after the end", window.text, window.at)
    yield from _only_object(window, whole, first, start, file)


def _first_object(window: Window, file: JsonFile, start: int) -> tuple[dict[str, object], Row | BadRow]:
    """Return the object that begins here, both as it is and as a row; raises JSONDecodeError."""
    line = file.reached = window.line
    try:
        whole = window.value(keep_from=start)
    except UnusableValue as error:
        return {}, unusable(error, file.source, line)
    return whole, file.row(whole, line)


def _only_object(
    window: Window, whole: dict[str, object], first: Row | BadRow, start: int, file: JsonFile
) -> Found:
    """Yield the rows of a file that is a single object; raises DataError if it holds no list of rows, or several."""
    if is_conversation(whole):
        yield first
        return
    # One bad row in the list of rows makes the whole object unusable, so read the rows one by one.
    if isinstance(first, BadRow):
        window.at = start
        yield from _large_object(window, file)
        return
    lists = lists_of_rows(whole)
    if len(lists) != 1:
        raise no_list(whole, file.source)
    file.notes.append(f"{file.source}: the rows are the list under {lists[0]!r}")
    file.notes.append(served_note(whole, file.source))
    window.at = start
    yield from _rows_under(window, lists[0], file)


def _lines_after(window: Window, file: JsonFile) -> Found:
    """Yield the rows of the lines after the first object."""
    window.advance()
    yield from jsonl_rows(window.rest(), file, window.line)


def _values_after(window: Window, file: JsonFile) -> Found:
    """Yield concatenated objects, which may span several lines and be separated by commas."""
    while mark := window.skip_space():
        if mark == ",":
            window.step()
            if window.skip_space() != "{":
                raise json.JSONDecodeError("Expecting an object after the comma", window.text, window.at)
        window.advance()
        yield _next_row(window, file)


def _large_object(window: Window, file: JsonFile) -> Found:
    """Yield the rows of the list in an object that is too large to parse as a whole; raises DataError for a second
    list."""
    lists: list[str] = []
    for key in _keys(window):
        # `features` of Hugging Face's datasets server is a list, but of columns.
        if window.mark() != "[" or key == "features":
            window.value()
            continue
        lists.append(key)
        if len(lists) > 1:
            raise no_list({name: [{}] for name in lists}, file.source)
        yield from _numbered(_list_rows(window, file), file)
    _require_end(window)
    if not lists:
        raise no_list({}, file.source)
    file.notes.append(f"{file.source}: the rows are the list under {lists[0]!r}")


def _rows_under(window: Window, wanted: str, file: JsonFile) -> Found:
    """Yield the rows of the list under the key `wanted` of the object that begins here."""
    for key in _keys(window):
        if key == wanted and window.mark() == "[":
            yield from _numbered(_list_rows(window, file), file)
        else:
            window.value()


def _keys(window: Window) -> Iterator[str]:
    """Yield the keys of the object that begins here, with the window at the key's value; the caller must parse it."""
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
        raise json.JSONDecodeError("There is more text after the end", window.text, window.at)
