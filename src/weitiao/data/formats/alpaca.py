"""Alpaca: instruction and output, optionally input, system and history.

One row is one exchange, with earlier exchanges in `history` (Stanford Alpaca,
https://github.com/tatsu-lab/stanford_alpaca; `system` and `history` as LLaMA-Factory writes them).
"""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Row
from ._base import Format, needed, said_in_text
from ._calls import TOOLS, tools_in
from ._prompts import CONTEXTS, THOUGHTS, one_exchange, question_in
from ._turns import conversation


class Alpaca(Format):
    """The question is the instruction, followed by the input on the next line if there is one; or the input alone."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (
        "instruction",
        "input",
        "output",
        "system",
        "system_prompt",
        "history",
        *CONTEXTS,
        *THOUGHTS,
        *TOOLS,
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"instruction", "output"}),)
    example: ClassVar[str] = (
        '{"instruction": "What is ginger good for?", "input": "", "output": "It warms the stomach."}'
    )

    def read(self, row: Row) -> Conversation:
        """Parse a row into system message, history, question and answer; raises RowError."""
        fields = row.fields
        question = question_in(fields, ("instruction",))
        answer = said_in_text(fields[needed(("output",), fields)], "'output'")
        turns = one_exchange(fields, question, answer)
        return conversation(turns, row, tools_in(fields))
