"""Messages: a list of {role, content}, as OpenAI's chat API takes it, with tool calls, reasoning and weights.

`content` is text or a list of text parts (https://platform.openai.com/docs/api-reference/chat); `tools` holds the
functions that may be called; `weight` (0 or 1) is that of OpenAI's fine-tuning data, here any number from 0 on.
"""

from __future__ import annotations

from typing import ClassVar

from ..conversation import Conversation, Row
from ._base import Format
from ._calls import tools_in
from ._turns import conversation, messages_in, with_system_turn


class Messages(Format):
    """Every assistant message is an answer to train on, unless its weight is 0."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = ("messages", "system", "system_prompt", "tools", "functions")
    may_stay: ClassVar[tuple[str, ...]] = ("answer", "solution")
    ways: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"messages"}),)
    example: ClassVar[str] = (
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}'
    )

    def read(self, row: Row) -> Conversation:
        """Parse a row into a conversation; raises RowError, also for images."""
        turns = with_system_turn(row.fields, messages_in(row.fields, "messages"))
        return conversation(turns, row, tools_in(row.fields))
