"""Alpaca: instruction and output, optionally input, system and history.

One row is one exchange, with earlier exchanges in `history` (Stanford Alpaca,
https://github.com/tatsu-lab/stanford_alpaca; `system` and `history` as LLaMA-Factory writes them).
"""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Row
from ._base import Format, optional_text_in, text_in
from ._prompts import joined, one_exchange
from ._turns import conversation, tools_in


class Alpaca(Format):
    """The question is the instruction, with the input, where there is one, on the next line."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (
        "instruction",
        "input",
        "output",
        "system",
        "system_prompt",
        "history",
        "tools",
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"instruction", "output"}),)
    example: ClassVar[str] = (
        '{"instruction": "What is ginger good for?", "input": "", "output": "It warms the stomach."}'
    )

    def read(self, row: Row) -> Conversation:
        """Turn a row into system, history, question and answer; raises RowError."""
        fields = row.fields
        question = joined(text_in(fields, "instruction"), optional_text_in(fields, "input"))
        turns = one_exchange(fields, question, text_in(fields, "output"))
        return conversation(turns, row, tools_in(fields))
