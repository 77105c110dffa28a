"""Instruction and response under their other names: a prompt, query, question or input, and what answers it.

Used by Dolly (instruction, context, response), OpenOrca (system_prompt, question, response) and many others.
"""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Row
from ._base import Format, each_of, needed, said_in_text
from ._calls import TOOLS, tools_in
from ._prompts import CONTEXTS, THOUGHTS, one_exchange, question_in
from ._turns import conversation

ASKED = ("instruction", "prompt", "query", "question", "input")
ANSWERED = ("response", "answer", "completion", "output", "reply")
OTHERS = (("instruction", "output"), ("prompt", "completion"), ("question", "answer"))
"""Pairs of columns with a format of their own."""


class InstructionResponse(Format):
    """The question is the instruction, with an optional context before it and an optional input after it."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (
        *ASKED,
        *ANSWERED,
        *CONTEXTS,
        *THOUGHTS,
        "system",
        "system_prompt",
        "history",
        *TOOLS,
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = tuple(
        way for way in each_of(ASKED, ANSWERED) if way not in map(frozenset, OTHERS)
    )
    example: ClassVar[str] = '{"instruction": "Name a root vegetable.", "response": "Carrot."}'

    def claimed(self, columns: set[str]) -> frozenset[str]:
        """Return the first column that asks and the first that answers, unless this pair has its own format."""
        pair = [next((name for name in names if name in columns), "") for names in (ASKED, ANSWERED)]
        return frozenset(pair) if frozenset(pair) in self.ways else frozenset()

    def read(self, row: Row) -> Conversation:
        """Parse a row into system message, history, question and answer; raises RowError."""
        fields = row.fields
        question = question_in(fields, ASKED)
        answered = needed(ANSWERED, fields)
        answer = said_in_text(fields[answered], repr(answered))
        return conversation(one_exchange(fields, question, answer), row, tools_in(fields))
