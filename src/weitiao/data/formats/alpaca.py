"""Alpaca: instruction and output, optionally input, system and history.

One row is one exchange, with earlier exchanges in `history` (Stanford Alpaca,
https://github.com/tatsu-lab/stanford_alpaca; `system` and `history` as LLaMA-Factory writes them).
"""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Role, Row
from ._base import Format, RowError, conversation, kind_of, list_in, optional_text_in, text_in


class Alpaca(Format):
    """The question is the instruction, with the input, where there is one, on the next line."""

    columns: ClassVar[tuple[str, ...]] = ("instruction", "input", "output", "system", "history")
    required: ClassVar[frozenset[str]] = frozenset({"instruction", "output"})
    example: ClassVar[str] = (
        '{"instruction": "What is ginger good for?", "input": "", "output": "It warms the stomach."}'
    )

    def parse(self, row: Row) -> Conversation:
        """Turn a row into system, history, question and answer; raises RowError."""
        fields = row.fields
        question = text_in(fields, "instruction")
        context = optional_text_in(fields, "input")
        system = optional_text_in(fields, "system")
        turns: list[tuple[Role, str]] = [("system", system)] if system.strip() else []
        for asked, answered in _history(row):
            turns += [("user", asked), ("assistant", answered)]
        turns.append(("user", "\n".join(part for part in (question, context) if part.strip())))
        turns.append(("assistant", text_in(fields, "output")))
        return conversation(turns, row)


def _history(row: Row) -> list[tuple[str, str]]:
    """Return the earlier exchanges; raises RowError where one is not a pair of texts."""
    if row.fields.get("history") in (None, ""):
        return []
    pairs = []
    for number, pair in enumerate(list_in(row.fields, "history"), start=1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError(
                "'history' is not a list of [question, answer] pairs", f"item {number} is {kind_of(pair)}"
            )
        wrong = [kind_of(text) for text in pair if not isinstance(text, str)]
        if wrong:
            raise RowError(f"'history' holds {wrong[0]} where text was meant", f"item {number}")
        pairs.append((pair[0], pair[1]))
    return pairs
