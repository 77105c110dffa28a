"""ShareGPT: conversations, a list of {from, value}, with the many names its roles go by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..conversation import Conversation, Role, Row
from ._base import Format, RowError, conversation, optional_text_in, role_of, text_in, turns_in

ROLES: Mapping[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "tool": "tool",
    "function_call": "tool",
    "observation": "tool",
}


class ShareGPT(Format):
    """Every turn of the model is an answer to train on; a `system` column goes before the turns."""

    columns: ClassVar[tuple[str, ...]] = ("conversations", "system")
    required: ClassVar[frozenset[str]] = frozenset({"conversations"})
    example: ClassVar[str] = (
        '{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}'
    )

    def parse(self, row: Row) -> Conversation:
        """Turn a row into a conversation; raises RowError."""
        turns: list[tuple[Role, str]] = []
        system = optional_text_in(row.fields, "system")
        if system.strip():
            turns.append(("system", system))
        for role, turn in _turns(row):
            turns.append((role_of(role, ROLES), text_in(turn, "value", "a turn's ")))
        return conversation(turns, row)


def _turns(row: Row) -> list[tuple[str, Mapping[str, object]]]:
    """Return the turns; raises RowError, which names the way out where they are messages under this name."""
    listed = row.fields.get("conversations")
    first = listed[0] if isinstance(listed, list) and listed else None
    if isinstance(first, dict) and {"role", "content"} <= set(first):
        raise RowError("its turns have 'role' and 'content'", "write data.columns.messages=conversations")
    return turns_in(row, "conversations", "from", "value")
