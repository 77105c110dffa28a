"""ShareGPT: conversations, a list of {from, value}, with the many names its roles go by.

Turns from `function_call` hold a call as JSON text, turns from `observation` its result, as LLaMA-Factory writes them.
"""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Row
from ._base import Format, needed
from ._calls import tools_in
from ._turns import conversation, messages_in, with_system_turn

TALKS = ("conversations", "conversation")


class ShareGPT(Format):
    """Every turn of the model is an answer to train on; a `system` column goes before the turns."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (*TALKS, "system", "system_prompt", "tools", "functions")
    may_stay: ClassVar[tuple[str, ...]] = ("answer", "solution")
    ways: ClassVar[tuple[frozenset[str], ...]] = tuple(frozenset({name}) for name in TALKS)
    example: ClassVar[str] = (
        '{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}'
    )

    def read(self, row: Row) -> Conversation:
        """Turn a row into a conversation, whichever keys its turns have; raises RowError."""
        turns = messages_in(row.fields, needed(TALKS, row.fields))
        return conversation(with_system_turn(row.fields, turns), row, tools_in(row.fields))
