"""Labelled text: a text, or a pair of texts, with a label or (multi-label) a list of labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from ..conversation import Row
from ..forms import Labelled
from ._base import (
    Format,
    RowError,
    each_of,
    filled_text_in,
    first_of,
    kind_of,
    missing,
    needed,
    shortened_value,
    text_of,
    unpacked,
)

PAIRS = (("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"))
TEXTS = ("text", "sentence")
LABELS = ("label", "labels")


class LabelledText(Format):
    """A label is a word or a whole number; a list of them makes the data multi-label."""

    form: ClassVar[str] = "labelled"
    columns: ClassVar[tuple[str, ...]] = (*TEXTS, *(name for pair in PAIRS for name in pair), *LABELS)
    ways: ClassVar[tuple[frozenset[str], ...]] = (
        *(way | set(pair) for pair in PAIRS for way in each_of(LABELS)),
        *each_of(TEXTS, LABELS),
    )
    example: ClassVar[str] = '{"text": "The soup was wonderful.", "label": "positive"}'

    def claims_rows(self, sample: Sequence[Row]) -> bool:
        """Return whether at least one row has a label that is a word or whole number, or a list of them."""
        values = [unpacked_or_same(row.fields.get(name)) for row in sample for name in LABELS]
        return any(
            _is_label(value) or (isinstance(value, list) and all(map(_is_label, value))) for value in values
        )

    def as_answers(self, columns: Collection[str]) -> str:
        """Return the settings that make the text a question and the label its answer; "" for a pair of texts."""
        text, label = (next((name for name in names if name in columns), "") for names in (TEXTS, LABELS))
        return f"data.columns.instruction={text} data.columns.output={label}" if text and label else ""

    def read(self, row: Row) -> Labelled:
        """Parse a row into a text or pair of texts with labels; raises RowError."""
        fields = row.fields
        pair = next((pair for pair in PAIRS if pair[0] in fields), None)
        text = filled_text_in(fields, pair[0] if pair else needed(TEXTS, fields))
        second = filled_text_in(fields, pair[1]) if pair else ""
        name = first_of(LABELS, fields)
        if not name:
            raise missing(" or ".join(map(repr, LABELS)), fields)
        value = unpacked(fields[name], name) if name == "labels" else _list_or_label(fields[name])
        several = isinstance(value, list)
        labels = tuple(_label(one, name) for one in (value if isinstance(value, list) else [value]))
        if len(set(labels)) < len(labels):
            raise RowError(f"{name!r} holds a label twice", shortened_value(value))
        return Labelled(row.place, text=text, second=second, labels=labels, multi=several)


def unpacked_or_same(value: object) -> object:
    """Return a value with a list or object written as text parsed; text that is no list, such as `[CLS]`, unchanged."""
    try:
        return unpacked(value, "")
    except RowError:
        return value


def _list_or_label(value: object) -> object:
    """Return the list of labels that a table cell holds as text; otherwise the value, a single label."""
    found = unpacked_or_same(value) if isinstance(value, str) and value.startswith("[") else value
    return found if isinstance(found, list) and found and all(map(_is_label, found)) else value


def _is_label(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())


def _label(value: object, name: str) -> str:
    """Return a label as text; raises RowError for a value that cannot name a class."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return str(value).lower()
    if not _is_label(value):
        raise RowError(f"{name!r} must be a label, not {kind_of(value)}", shortened_value(value))
    if not str(value).strip():
        raise RowError(f"{name!r} is empty")
    return text_of(str(value).strip(), repr(name))
