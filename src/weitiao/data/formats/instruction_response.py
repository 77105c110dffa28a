"""Instruction and response under their other names: a prompt, query, question or input, and what answers it.

As Dolly (instruction, context, response), OpenOrca (system_prompt, question, response) and many others have it.
"""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Row
from ._base import Format, each_of, needed, text_in
from ._prompts import context_and, one_exchange
from ._turns import conversation

ASKED = ("instruction", "prompt", "query", "question", "input")
ANSWERED = ("response", "answer", "completion", "output", "reply")
OTHERS = (("instruction", "output"), ("prompt", "completion"), ("question", "answer"))
"""Pairs that have a format of their own."""


class InstructionResponse(Format):
    """The question is the instruction; a context, where there is one, stands before it."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (
        *ASKED,
        *ANSWERED,
        "context",
        "system",
        "system_prompt",
        "history",
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = tuple(
        way for way in each_of(ASKED, ANSWERED) if way not in map(frozenset, OTHERS)
    )
    example: ClassVar[str] = '{"instruction": "Name a root vegetable.", "response": "Carrot."}'

    def claimed(self, columns: set[str]) -> frozenset[str]:
        """Return the first column that asks and the first that answers, unless they are another format's pair."""
        pair = [next((name for name in names if name in columns), "") for names in (ASKED, ANSWERED)]
        return frozenset(pair) if frozenset(pair) in self.ways else frozenset()

    def read(self, row: Row) -> Conversation:
        """Turn a row into system, history, question and answer; raises RowError."""
        fields = row.fields
        question = context_and(fields, ("context",), text_in(fields, needed(ASKED, fields)))
        answer = text_in(fields, needed(ANSWERED, fields))
        return conversation(one_exchange(fields, question, answer), row)
