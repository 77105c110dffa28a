"""What a format is: which columns it claims, and how one of its rows becomes a form; and how fields are read."""

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
"""Forms whose rows may have columns that hold the text they were made of."""
JUDGED = ("unpaired", "scored")
"""Forms that train on bad answers too, as bad."""
EVERY_FORMAT_READS = ("task",)
"""Columns that mean the same in every format."""


NO_JSON_NUMBER = "holds a number that JSON cannot carry (infinite, no number, or of over 4,300 digits)"


class RowError(Exception):
    """One row cannot be used; `reason` is the same for all rows with this fault, `detail` is this row's
    own."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason} ({detail})" if detail else reason)

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str]]:
        """Keep the detail on the way from another process."""
        return type(self), (self.reason, self.detail)


class Format(ABC):
    """One form of row; each file in this folder derives one class."""

    form: ClassVar[str]
    """What its rows become: a key of `forms.FORMS`."""
    columns: ClassVar[tuple[str, ...]]
    """Every column it reads, beside those that every format reads."""
    ways: ClassVar[tuple[frozenset[str], ...]]
    """Sets of columns, each of which makes data this format's; of those that fit, the first counts."""
    rank: ClassVar[int] = 1
    """Of the formats that claim, only the highest rank stands: 2 for columns nobody has by chance, 0 for a last
    resort."""
    may_stay: ClassVar[tuple[str, ...]] = ()
    """Those of its columns that say the same as others, or more, so that one of them may stay unread."""
    example: ClassVar[str]
    """A row as it should look, for error messages and the docs."""

    def claimed(self, columns: set[str]) -> frozenset[str]:
        """Return the columns by which it claims data that has `columns`; none where it does not."""
        return next((way for way in self.ways if way <= columns), frozenset())

    def claims(self, columns: set[str]) -> bool:
        """Whether data with these columns can have this format."""
        return bool(self.claimed(columns))

    def claims_rows(self, sample: Sequence[Row]) -> bool:
        """Whether what stands in the columns is what this format reads; asked only where the columns fit."""
        return True

    def as_answers(self, columns: Collection[str]) -> str:
        """Return what to type so that rows with these columns are questions with answers; "" where nothing does."""
        return ""

    def reason(self, claimed: Iterable[str]) -> str:
        """Say by what it claims data, in a few words."""
        *first, last = self._in_order(claimed)
        return "it has " + (f"{', '.join(first)} and {last}" if first else last)

    def reason_zh(self, claimed: Iterable[str]) -> str:
        """Say the same in Chinese."""
        return "有 " + "、".join(self._in_order(claimed)) + " 列"

    def _in_order(self, claimed: Iterable[str]) -> list[str]:
        return sorted(claimed, key=self.columns.index)

    def parse(self, row: Row) -> AnyForm:
        """Turn a row into a form, with its task; raises RowError with the reason."""
        return self.parse_noting(row)[0]

    def parse_noting(self, row: Row, *, named: bool = False) -> tuple[AnyForm, list[str]]:
        """Return a row's form, and the columns and keys of turns it was made without; raises RowError, also where
        one of these has a known meaning.

        Where a person `named` the format, they chose between columns that ask the same.
        """
        fields = Fields(_without_nan(row.fields))
        form = self.read(Row(fields, row.source, row.line, row.column))
        task = fields.get("task")
        if not (task is None or task == ""):
            if isinstance(task, bool) or not isinstance(task, str | int):
                raise RowError(f"'task' is {kind_of(task)} where a name was meant", shortened_value(task))
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
        """Whether a column only says that its row is to be used; raises RowError for one that is not to be used."""
        if not one.is_column or kind_of_form(form) in JUDGED:
            return False
        used = chooses(one.name, one.value)
        if used is False:
            judges = kind_of_form(form) == "conversation" and is_good(one.name)
            kto = f"; data.columns.label={one.name} makes it the label of KTO" if judges else ""
            raise RowError(
                f"{one.name!r} says that the row is not one to train on (data.skip_bad_rows=true leaves such rows "
                f"out; data.sources.ignore_columns={one.name} trains on them{kto})",
                shortened_value(one.value),
            )
        return bool(used)

    def _meaning(self, one: Unread, form: AnyForm, fields: Mapping[str, Any], named: bool) -> str:
        """Return what a column or key says that was not read, nothing where the row means the same without it."""
        plain = one.name.strip().lower()
        if plain in MEANINGS:
            return MEANINGS[plain]
        if not one.is_column:
            return TURN_TEXT.get(plain, "")
        if one.name in self.may_stay:
            return ""
        says = "" if named else self._competes(plain, form, fields)
        if not says and one.name in self.columns:
            says = "what another column was taken for"
        return says if says and not is_said(one, form, fields) else ""

    def _ways_out(self, one: Unread, form: AnyForm, fields: Mapping[str, Any]) -> str:
        """Return the settings that read a row with a column in its place, or without it."""
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
        """Return what a column says that asks, answers or tells the same as those that a row's form is made of."""
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
        """Turn a row into a form without its task; raises RowError with the reason."""


def _without_nan(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return columns with the NaN of an empty cell, as pandas writes it, as null; a weight or a score stays one."""
    if not any(type(value) is float and value != value for value in fields.values()):
        return fields
    return {
        name: None if type(value) is float and value != value and name.lower() not in MEANINGS else value
        for name, value in fields.items()
    }


def each_of(*groups: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Return `ways` that take one column of every group, in the groups' order."""
    return tuple(frozenset(way) for way in product(*groups))


def mostly(answers: Iterable[bool]) -> bool:
    """Whether more than half of the answers are yes, or there are none."""
    found = list(answers)
    return not found or 2 * sum(found) > len(found)


def first_of(names: Iterable[str], fields: Mapping[str, Any]) -> str:
    """Return the first name whose field holds something, else the first whose field is there and not null; nothing
    where none is."""
    given = ""
    for name in names:
        if name in fields and (value := fields.get(name)) is not None:
            if not is_empty(value):
                return name
            given = given or name
    return given


def needed(names: Sequence[str], fields: Mapping[str, Any]) -> str:
    """Return the first name whose field is there; raises RowError where none is."""
    found = first_of(names, fields) or next((name for name in names if name in fields), "")
    if not found:
        raise missing(" or ".join(map(repr, names)), fields)
    return found


def missing(what: str, fields: Mapping[str, Any]) -> RowError:
    """Return the error for a field that is not there."""
    return RowError(f"{what} is missing", "it has " + (", ".join(map(repr, fields)) or "nothing"))


def kind_of(value: object) -> str:
    """Name a value's kind as a person who writes data knows it."""
    return KIND_NAMES.get(type(value), type(value).__name__)


def text_in(fields: Mapping[str, Any], name: str, owner: str = "") -> str:
    """Return a text field; raises RowError where it is missing or something else. `owner` goes before the
    name."""
    if name not in fields:
        raise missing(f"{owner}{name!r}", fields)
    return text_of(fields[name], f"{owner}{name!r}")


def text_of(value: object, what: str) -> str:
    """Return a value that is whole text; raises RowError, which calls it `what`."""
    if not isinstance(value, str):
        raise RowError(f"{what} is {kind_of(value)} where text was meant", shortened_value(value))
    if not value.isascii():
        try:
            value.encode()  # the fastest way to ask for lone surrogates
        except UnicodeEncodeError as error:
            raise RowError(
                f"{what} holds half a character (a lone surrogate)", ascii(shortened_value(value))
            ) from error
    return value


def said_in_text(value: object, what: str) -> str:
    """Return what a person or a model says, as text, also where it is a number; raises RowError, which calls it
    `what`."""
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        try:
            return str(value)
        except ValueError as error:  # Python writes no integer of more than 4,300 digits
            raise RowError(f"{what} is a number of too many digits") from error
    return text_of(value, what)


def optional_text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text field, or nothing where it is missing or null; raises RowError where it is something
    else."""
    return "" if fields.get(name) is None else text_in(fields, name)


def filled_text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text field that is more than blanks; raises RowError."""
    text = text_in(fields, name)
    if not text.strip():
        raise RowError(f"{name!r} is empty")
    return text


def list_in(fields: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list field, also from JSON text (a CSV cell); raises RowError where it is missing or something
    else."""
    if name not in fields:
        raise missing(repr(name), fields)
    value = unpacked(fields[name], name)
    if not isinstance(value, list):
        raise RowError(f"{name!r} is {kind_of(value)} where a list was meant", shortened_value(value))
    return value


def unpacked(value: object, name: str) -> Any:  # noqa: ANN401  (what the data holds)
    """Return a value, a list or object that was written as text read, JSON or as Python prints it; raises RowError."""
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
        raise RowError(f"{name!r} {NO_JSON_NUMBER}", shortened_value(value)) from error


def number_of(value: object, what: str) -> float:
    """Return a finite number, also one written as text; raises RowError, which calls it `what`."""
    try:
        number = (
            math.nan if isinstance(value, bool) or not isinstance(value, str | int | float) else float(value)
        )
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError(f"{what} is no finite number", shortened_value(value))
    return number


TRUTH: Mapping[object, bool] = {1: True, 0: False, "true": True, "false": False, "1": True, "0": False}


def truth_of(value: object, what: str) -> bool:
    """Return true or false, also from 0, 1 and their words; raises RowError, which calls it `what`."""
    plain = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(plain, str | int | float) or plain not in TRUTH:
        raise RowError(f"{what} is neither true nor false", shortened_value(value))
    return TRUTH[plain]


def shortened_value(value: object, limit: int = 60) -> str:
    """Write a value so that it fits into a message."""
    try:
        text = repr(value[: 2 * limit]) if isinstance(value, str) else repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = "a number of over 4,300 digits"
    return text if len(text) <= limit else text[: limit - 1] + "…"
