"""ShareGPT: conversations, a list of {from, value}, with the many names its roles go by.

As in LLaMA-Factory, turns from `function_call` hold a tool call as JSON text, and turns from `observation` its result.
"""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Row
from ._base import Format, needed
from ._calls import tools_in
from ._turns import conversation, messages_in, with_system_turn

TALKS = ("conversations", "conversation")


class ShareGPT(Format):
    """Every assistant turn is trained; a `system` column becomes the first turn."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (*TALKS, "system", "system_prompt", "tools", "functions")
    may_stay: ClassVar[tuple[str, ...]] = ("answer", "solution")
    ways: ClassVar[tuple[frozenset[str], ...]] = tuple(frozenset({name}) for name in TALKS)
    example: ClassVar[str] = (
        '{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}'
    )

    def read(self, row: Row) -> Conversation:
        """Parse a row into a conversation; its turns may also have the keys role and content; raises RowError."""
        turns = messages_in(row.fields, needed(TALKS, row.fields))
        return conversation(with_system_turn(row.fields, turns), row, tools_in(row.fields))
