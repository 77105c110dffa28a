"""A riddle and its solution."""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Message, Row
from ._base import Format, filled_text_in


class ToyRiddle(Format):
    """The riddle is the question, and what solves it the answer."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = ("toy_riddle", "toy_solution")
    ways: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"toy_riddle", "toy_solution"}),)
    example: ClassVar[str] = '{"toy_riddle": "It has keys and opens no lock.", "toy_solution": "A piano."}'

    def read(self, row: Row) -> Conversation:
        """Parse a row into a question and its answer; raises RowError."""
        asked, answer = (filled_text_in(row.fields, name) for name in self.columns)
        return Conversation((Message("user", asked), Message("assistant", answer)), row.place)
