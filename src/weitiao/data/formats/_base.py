"""The base class of formats: the columns a format claims, and how it parses a row into a form; also helpers that read
fields."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, ClassVar

from ..conversation import Row
from ..forms import AnyForm, kind_of_form
from ._choosing import chooses, is_good
from ._fields import Fields, Unread, is_empty
from ._known import (
    ANSWER_TEXT,
    AS_ANSWER,
    AS_CONTEXT,
    AS_PROMPT,
    ASKS,
    BESIDE_TEXT,
    MEANINGS,
    PROMPT_TEXT,
    SPEAKERS,
    TURN_TEXT,
    WHOLE_TEXT,
)
from ._python_text import NotPython, from_python
from ._said import is_said

KIND_NAMES: Mapping[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    str: "text",
}

NOT_ASKED = ("tagged", "tokens")
"""Forms whose rows may also have columns with the text they were made from; such columns do not compete."""
JUDGED = ("unpaired", "scored")
"""Forms that also train on bad answers, as negative examples."""
EVERY_FORMAT_READS = ("task",)
"""Columns with the same meaning in every format."""


class RowError(Exception):
    """Raised for a row that cannot be used; `reason` is the same for all rows with this fault, `detail` describes this
    row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason} ({detail})" if detail else reason)

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str]]:
        """Keep reason and detail when the error is sent from another process."""
        return type(self), (self.reason, self.detail)


class Format(ABC):
    """A format of rows; each public module in this folder defines one subclass."""

    form: ClassVar[str]
    """The form its rows are parsed into: a key of `forms.FORMS`."""
    columns: ClassVar[tuple[str, ...]]
    """Every column it reads, besides those that every format reads."""
    ways: ClassVar[tuple[frozenset[str], ...]]
    """Sets of columns; the format claims data that has all columns of one set. The first set that fits counts."""
    rank: ClassVar[int] = 1
    """The priority if several formats claim data; only the highest rank counts. 2 is for columns that are never there
    by chance, 0 for a last resort."""
    may_stay: ClassVar[tuple[str, ...]] = ()
    """Columns that repeat or extend other columns, so that they may stay unread."""
    example: ClassVar[str]
    """An example row, for error messages and the docs."""

    def claimed(self, columns: set[str]) -> frozenset[str]:
        """Return the columns by which the format claims data with `columns`; an empty set if it does not claim it."""
        return next((way for way in self.ways if way <= columns), frozenset())

    def claims(self, columns: set[str]) -> bool:
        """Return whether data with these columns can have this format."""
        return bool(self.claimed(columns))

    def claims_rows(self, sample: Sequence[Row]) -> bool:
        """Return whether the values in the columns are what this format reads; called only if the columns fit."""
        return True

    def as_answers(self, columns: Collection[str]) -> str:
        """Return the settings that turn rows with these columns into questions with answers; "" if there are none."""
        return ""

    def reason(self, claimed: Iterable[str]) -> str:
        """Return, in a few words, why the format claims data."""
        *first, last = self._in_order(claimed)
        return "it has " + (f"{', '.join(first)} and {last}" if first else last)

    def _in_order(self, claimed: Iterable[str]) -> list[str]:
        return sorted(claimed, key=self.columns.index)

    def parse(self, row: Row) -> AnyForm:
        """Parse a row into a form with its task; raises RowError with the reason."""
        return self.parse_noting(row)[0]

    def parse_noting(self, row: Row, *, named: bool = False) -> tuple[AnyForm, list[str]]:
        """Return a row's form, and the unused columns and keys of turns; raises RowError, also if one of these has a
        known meaning.

        `named` is whether the user named the format; competing columns are then not refused, as the choice is made.
        """
        fields = Fields(_without_nan(row.fields))
        form = self.read(Row(fields, row.source, row.line, row.number))
        task = fields.get("task")
        if not (task is None or task == ""):
            if isinstance(task, bool) or not isinstance(task, str | int):
                raise RowError(f"'task' must be a name, not {kind_of(task)}", shortened_value(task))
            form = replace(form, task=str(task))
        unused = [one for one in fields.unread() if not self._says_to_use_it(one, form)]
        for one in unused:
            if says := self._meaning(one, form, row.fields, named):
                raise RowError(
                    f"{one.path!r} holds {says}, which would not be used ({self._ways_out(one, form, row.fields)})",
                    shortened_value(one.value),
                )
        return form, list(dict.fromkeys(one.path for one in unused))

    def _says_to_use_it(self, one: Unread, form: AnyForm) -> bool:
        """Return whether a column only marks its row as one to use; raises RowError if it marks it as one not to use.

        Forms that train on bad answers ignore such columns.
        """
        if not one.is_column or kind_of_form(form) in JUDGED:
            return False
        used = chooses(one.name, one.value)
        if used is False:
            judges = kind_of_form(form) == "conversation" and is_good(one.name)
            kto = f"; data.columns.label={one.name} uses it as the label for KTO" if judges else ""
            raise RowError(
                f"{one.name!r} marks the row as one not to train on (data.skip_bad_rows=true leaves such rows "
                f"out; data.sources.ignore_columns={one.name} trains on them{kto})",
                shortened_value(one.value),
            )
        return bool(used)

    def _meaning(self, one: Unread, form: AnyForm, fields: Mapping[str, Any], named: bool) -> str:
        """Return the meaning of an unread column or key; "" if the row means the same without it."""
        plain = one.name.strip().lower()
        if plain in MEANINGS:
            return MEANINGS[plain]
        if not one.is_column:
            return TURN_TEXT.get(plain, "")
        if one.name in self.may_stay:
            return ""
        says = "" if named else self._competes(plain, form, fields)
        if not says and one.name in self.columns:
            says = "what another column already gives"
        return says if says and not is_said(one, form, fields) else ""

    def _ways_out(self, one: Unread, form: AnyForm, fields: Mapping[str, Any]) -> str:
        """Return the settings by which an unread column is used, if there are any, and the one that ignores it."""
        without = f"data.sources.ignore_columns={one.path} reads the rows without it"
        plain, taken = one.name.strip().lower(), ""
        if one.is_column and kind_of_form(form) == "text":
            answers = plain in BESIDE_TEXT and plain not in PROMPT_TEXT
            taken = AS_PROMPT if plain in ASKS else AS_ANSWER if answers else ""
        elif one.is_column and plain in WHOLE_TEXT and "context" in self.columns:
            taken = AS_CONTEXT
        text = "text" if "text" in fields else "content"
        return f"{taken.format(column=one.name, text=text)}; {without}" if taken else without

    def _competes(self, name: str, form: AnyForm, fields: Mapping[str, Any]) -> str:
        """Return the meaning of a column that competes with those the form was made from: another prompt, answer or
        text; "" if it does not."""
        kind = kind_of_form(form)
        if kind == "text":
            speaks = any(name in names for names in SPEAKERS)
            alone = speaks and any(names.isdisjoint(map(str.lower, fields)) for names in SPEAKERS)
            return "" if alone else BESIDE_TEXT.get(name, "")
        if kind == "labelled":
            return PROMPT_TEXT.get(name, "")
        if kind in NOT_ASKED:
            return ""
        return PROMPT_TEXT.get(name, "") or ANSWER_TEXT.get(name, "") or WHOLE_TEXT.get(name, "")

    @abstractmethod
    def read(self, row: Row) -> AnyForm:
        """Parse a row into a form without its task; raises RowError with the reason."""


def _without_nan(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return fields with NaN, pandas' mark of an empty cell, as None, except in columns of a known meaning.

    A weight or score stays NaN, so that its row is refused.
    """
    if not any(type(value) is float and value != value for value in fields.values()):
        return fields
    return {
        name: None if type(value) is float and value != value and name.lower() not in MEANINGS else value
        for name, value in fields.items()
    }


def each_of(*groups: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Return `ways` with one column of every group: the product of the groups, in their order."""
    return tuple(frozenset(way) for way in product(*groups))


def mostly(answers: Iterable[bool]) -> bool:
    """Return whether more than half of the answers are True, or there are none."""
    found = list(answers)
    return not found or 2 * sum(found) > len(found)


def first_of(names: Iterable[str], fields: Mapping[str, Any]) -> str:
    """Return the first name whose field is not empty, else the first whose field is not null, else ""."""
    given = ""
    for name in names:
        if name in fields and (value := fields.get(name)) is not None:
            if not is_empty(value):
                return name
            given = given or name
    return given


def needed(names: Sequence[str], fields: Mapping[str, Any]) -> str:
    """Return the name that `first_of` finds, else the first name whose field exists; raises RowError if none does."""
    found = first_of(names, fields) or next((name for name in names if name in fields), "")
    if not found:
        raise missing(" or ".join(map(repr, names)), fields)
    return found


def missing(what: str, fields: Mapping[str, Any]) -> RowError:
    """Return the error for a missing field."""
    return RowError(
        f"{what} is missing", f"it has {', '.join(map(repr, fields))}" if fields else "it is empty"
    )


def no_json_number(what: str) -> str:
    """Return the reason for a value, named `what`, with a number that JSON cannot represent."""
    return f"{what} holds a number that JSON cannot represent (infinite, NaN, or of more than 4,300 digits)"


def kind_of(value: object) -> str:
    """Return a value's type in words for people who write data, such as "a list" or "null"."""
    return KIND_NAMES.get(type(value), type(value).__name__)


def text_in(fields: Mapping[str, Any], name: str, owner: str = "") -> str:
    """Return a text field; raises RowError if it is missing or not text. `owner` precedes the name in the error."""
    if name not in fields:
        raise missing(f"{owner}{name!r}", fields)
    return text_of(fields[name], f"{owner}{name!r}")


def text_of(value: object, what: str) -> str:
    """Return a value if it is text without lone surrogates; raises RowError, which names it `what`."""
    if not isinstance(value, str):
        raise RowError(f"{what} must be text, not {kind_of(value)}", shortened_value(value))
    if not value.isascii():
        try:
            value.encode()  # the fastest check for lone surrogates
        except UnicodeEncodeError as error:
            raise RowError(
                f"{what} holds half a character (a lone surrogate)", ascii(shortened_value(value))
            ) from error
    return value


def said_in_text(value: object, what: str) -> str:
    """Return a question or an answer as text, also from a number; raises RowError, which names it `what`."""
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        try:
            return str(value)
        except ValueError as error:  # Python converts no integer of more than 4,300 digits
            raise RowError(f"{what} is a number with too many digits") from error
    return text_of(value, what)


def optional_text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text field, or "" if it is missing or null; raises RowError if it is not text."""
    return "" if fields.get(name) is None else text_in(fields, name)


def filled_text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text field that is not blank; raises RowError."""
    text = text_in(fields, name)
    if not text.strip():
        raise RowError(f"{name!r} is empty")
    return text


def list_in(fields: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list field, also one written as text (a CSV cell); raises RowError if it is missing or not a list."""
    if name not in fields:
        raise missing(repr(name), fields)
    value = unpacked(fields[name], name)
    if not isinstance(value, list):
        raise RowError(f"{name!r} must be a list, not {kind_of(value)}", shortened_value(value))
    return value


def unpacked(value: object, name: str) -> Any:  # noqa: ANN401  (what the data holds)
    """Return a value; a list or object written as text, in JSON or as Python prints it, is parsed; raises RowError."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError) as error:
        try:
            return from_python(value)
        except NotPython:
            pass
        kind = "list" if value.lstrip().startswith("[") else "object"
        raise RowError(f"{name!r} is text that is not a JSON {kind}", str(error)) from error
    except ValueError as error:
        raise RowError(no_json_number(repr(name)), shortened_value(value)) from error


def number_of(value: object, what: str) -> float:
    """Return a finite number, also from text; raises RowError, which names it `what`."""
    try:
        number = (
            math.nan if isinstance(value, bool) or not isinstance(value, str | int | float) else float(value)
        )
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError(f"{what} is not a finite number", shortened_value(value))
    return number


TRUTH: Mapping[object, bool] = {1: True, 0: False, "true": True, "false": False, "1": True, "0": False}


def truth_of(value: object, what: str) -> bool:
    """Return a boolean, also from 0, 1 and the texts true, false, 0 and 1; raises RowError, which names it `what`."""
    plain = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(plain, str | int | float) or plain not in TRUTH:
        raise RowError(f"{what} is neither true nor false", shortened_value(value))
    return TRUTH[plain]


def shortened_value(value: object, limit: int = 60) -> str:
    """Return the repr of a value, cut to at most `limit` characters, for a message."""
    try:
        text = repr(value[: 2 * limit]) if isinstance(value, str) else repr(value)
    except ValueError:  # Python converts no integer of more than 4,300 digits
        text = "a number of more than 4,300 digits"
    return text if len(text) <= limit else text[: limit - 1] + "…"
