"""Recognises JSON values other than a list of rows (a conversation, a single row, splits, tables) and describes them
in errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.errors import DataError, Problem
from ..bad_rows import BadRow
from ..conversation import Row, place_of
from ..formats._detect import known_names
from .json_values import UnusableValue
from .split_names import SPLITS

EXCERPT_CHARACTERS = 60
SERVED = "row_idx"
"""The key that marks a row from Hugging Face's datasets server."""
TURN_KEYS: Mapping[str, tuple[str, frozenset[str]]] = {
    "messages": ("role", frozenset({"content", "tool_calls", "function_call", "reasoning_content", "parts"})),
    "conversations": ("from", frozenset({"value"})),
}
"""The column for a list of turns -> the key of the role, and the keys of the content, of which a turn has at least
one."""


TABLE_OF_LISTS = (
    "in Python: [dict(zip(whole, cells)) for cells in zip(*whole.values())], written with json.dump; or from pandas: "
    "frame.to_json(PATH, orient='records', lines=True, force_ascii=False)"
)
TABLE_OF_PANDAS = "from pandas: frame.to_json(PATH, orient='records', lines=True, force_ascii=False)"
"""How a table by columns is written as rows."""


def turns_column(value: object) -> str:
    """Return the column for a list of turns; "" if the value is no such list."""
    if not isinstance(value, list) or not value:
        return ""
    for column, (who, what) in TURN_KEYS.items():
        if all(isinstance(one, dict) and who in one and what & one.keys() for one in value):
            return column
    return ""


def row_of(value: object, source: str, line: int) -> Row | BadRow:
    """Return the row of a JSON value: an object, or a list of turns (a conversation); a bad row for anything else."""
    if isinstance(value, dict):
        if SERVED in value and isinstance(value.get("row"), dict):
            return _served(value, source, line)
        return Row(value, source, line)
    if name := turns_column(value):
        return Row({name: value}, source, line)
    shown = repr(value)
    return BadRow(place_of(source, line), "it is not an object {...}", shown[:EXCERPT_CHARACTERS])


def _served(value: Mapping[str, Any], source: str, line: int) -> Row | BadRow:
    """Return the row inside a row of Hugging Face's datasets server; a bad row if the server truncated its cells."""
    row = Row(value["row"], source, line)
    if cut := value.get("truncated_cells"):
        return BadRow(
            row.place, "the datasets server has cut its cells: download the data set itself", f"{cut}"
        )
    return row


def unusable(error: UnusableValue, source: str, line: int) -> BadRow:
    """Return the bad row of a value that is JSON but cannot be used."""
    return BadRow(place_of(source, line), error.reason)


def lists_of_rows(whole: Mapping[str, object]) -> list[str]:
    """Return the keys of an object whose values are lists of rows."""
    if is_served(whole):
        return ["rows"]
    return [key for key, value in whole.items() if isinstance(value, list) and _holds_rows(value)]


def _holds_rows(value: list[object]) -> bool:
    return (
        not value or (isinstance(value[0], dict) and not turns_column(value)) or bool(turns_column(value[0]))
    )


def is_served(whole: Mapping[str, object]) -> bool:
    """Return whether an object is a page of rows from Hugging Face's datasets server
    (https://huggingface.co/docs/dataset-viewer/rows)."""
    rows = whole.get("rows")
    return isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict) and SERVED in rows[0]


def served_note(whole: Mapping[str, object], source: str) -> str:
    """Return a note on how many rows a page of the datasets server holds; "" if it holds all of them."""
    rows, total = whole.get("rows"), whole.get("num_rows_total")
    if not is_served(whole) or not isinstance(rows, list) or not isinstance(total, int) or total <= len(rows):
        return ""
    return f"{source} is a page of the datasets server: {len(rows):,} of {total:,} rows"


def is_conversation(whole: Mapping[str, object]) -> bool:
    """Return whether an object is a row with a list of turns."""
    return any(map(turns_column, whole.values()))


def no_list(whole: Mapping[str, object], source: str) -> DataError:
    """Return the error for an object that holds no list of rows, or several, according to its shape."""
    got = f"{source}: an object with " + (", ".join(map(repr, whole)) or "nothing")
    expected = "a list of objects, or an object with one list"
    lists = lists_of_rows(whole)
    if len(lists) > 1 and all(key.lower() in SPLITS for key in lists):
        return DataError(_splits(lists, source, got))
    if _answers_by_question(whole):
        return DataError(
            Problem(
                f"{source} seems to hold questions as keys and their answers as values",
                got,
                'one object per row: [{"question": "...", "answer": "..."}]',
                'in Python: [{"question": q, "answer": a} for q, a in whole.items()], written with json.dump',
            )
        )
    texts = [value for value in whole.values() if isinstance(value, str)]
    if whole and not lists and texts:
        remedy = "put [ before it and ] after it, with a comma between rows; or one object per line in a .jsonl file"
        return DataError(
            Problem(f"{source} holds one row, not a list of rows", got, "a list of objects", remedy)
        )
    if not lists and _are_rows_by_key(whole):
        remedy = "in Python: [*whole.values()], written with json.dump"
        return DataError(
            Problem(f"{source} holds each row under its own key, not a list of rows", got, expected, remedy)
        )
    if not lists and _is_table(whole):
        are_lists = isinstance(next(iter(whole.values())), list)
        remedy = TABLE_OF_LISTS if are_lists else TABLE_OF_PANDAS
        return DataError(
            Problem(f"{source} holds a table by columns, not a list of rows", got, expected, remedy)
        )
    remedy = "save the list with the rows as a file of its own" if lists else ""
    return DataError(Problem(f"{source} holds no list of rows", got, expected, remedy))


def _is_table(whole: Mapping[str, object]) -> bool:
    """Return whether an object is a table by columns, as pandas or a dict of lists: all columns have equal length."""
    cells = [value for value in whole.values() if isinstance(value, dict | list)]
    sizes = {len(value) for value in cells}
    if len(whole) == 1 and not all(_are_cells(one) for one in cells):
        return False
    return len(cells) == len(whole) > 0 and len(sizes) == 1 and sizes != {0} and len({*map(type, cells)}) == 1


def _are_rows_by_key(whole: Mapping[str, object]) -> bool:
    """Return whether all values of an object are objects with the same keys, which are names and not row numbers."""
    rows = [value for value in whole.values() if isinstance(value, dict)]
    if len(rows) < max(2, len(whole)):
        return False
    names = {frozenset(row) for row in rows}
    return len(names) == 1 and all(not name.isdecimal() for name in next(iter(names))) and bool(rows[0])


def _are_cells(values: dict[str, object] | list[object]) -> bool:
    """Return whether a table's only column holds texts or numbers, in a list or under row numbers."""
    by_place = not isinstance(values, dict) or all(key.isdecimal() for key in values)
    items = values.values() if isinstance(values, dict) else values
    return by_place and all(isinstance(one, str | int | float) for one in items)


def _answers_by_question(whole: Mapping[str, object]) -> bool:
    """Return whether an object holds texts, or lists of texts, and none of its keys is a known column."""
    if len(whole) < 2 or any(key.strip().lower() in known_names() for key in whole):
        return False
    return all(
        isinstance(value, str)
        or (isinstance(value, list) and value and all(isinstance(one, str) for one in value))
        for value in whole.values()
    )


def _splits(lists: list[str], source: str, got: str) -> Problem:
    """Return the problem of an object that holds one list per split."""
    trained = next((key for key in lists if SPLITS[key.lower()] == "train"), lists[0])
    others = [key for key in lists if key != trained]
    remedy = (
        f"write each list to its own file: data.sources={trained}.json data.held_out_path={others[0]}.json"
    )
    what = f"{source} holds {len(lists)} splits of a data set ({', '.join(lists)}), each with a list of rows"
    return Problem(what, got, "the rows of one split: a list of objects", remedy)
