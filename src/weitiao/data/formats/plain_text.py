"""Plain text, every token of which is learnt (continued pretraining)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..conversation import Row
from ..forms import Text
from ._base import Format, filled_text_in, mostly, needed

NAMES = ("text", "content")


class PlainText(Format):
    """Every token is trained; one row is one document."""

    form: ClassVar[str] = "text"
    columns: ClassVar[tuple[str, ...]] = NAMES
    ways: ClassVar[tuple[frozenset[str], ...]] = tuple(frozenset({name}) for name in NAMES)
    rank: ClassVar[int] = 0
    example: ClassVar[str] = '{"text": "Ginger is a flowering plant whose root is used as a spice."}'

    def claims_rows(self, sample: Sequence[Row]) -> bool:
        """Return whether the columns hold text in most rows that are not empty; empty rows do not count against it."""
        found = [[row.fields[name] for name in NAMES if name in row.fields] for row in sample]
        filled = [values for values in found if not values or any(map(_says_something, values))]
        return mostly(any(isinstance(value, str) for value in values) for values in filled)

    def read(self, row: Row) -> Text:
        """Parse a row into its text, unchanged; raises RowError if it is empty."""
        return Text(row.place, text=filled_text_in(row.fields, needed(NAMES, row.fields)))


def _says_something(value: object) -> bool:
    """Return whether a cell is neither null nor NaN, the only value not equal to itself."""
    return value is not None and value == value
