"""Messages: a list of {role, content}, as OpenAI's chat API takes it.

`content` is text or a list of text parts (https://platform.openai.com/docs/api-reference/chat).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Conversation, Role, Row
from ._base import Format, RowError, conversation, kind_of, role_of, text_in, turns_in

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


class Messages(Format):
    """Every assistant message is an answer to train on."""

    columns: ClassVar[tuple[str, ...]] = ("messages",)
    required: ClassVar[frozenset[str]] = frozenset({"messages"})
    example: ClassVar[str] = (
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}'
    )

    def parse(self, row: Row) -> Conversation:
        """Turn a row into a conversation; raises RowError, also for tool calls and images."""
        turns = []
        for role, turn in turns_in(row, "messages", "role", "content"):
            if turn.get("tool_calls") or turn.get("function_call"):
                raise RowError("it calls tools, which cannot be trained on yet", f"role {role!r}")
            turns.append((role_of(role, ROLES), _text(turn)))
        return conversation(turns, row)


def _text(turn: Mapping[str, Any]) -> str:
    """Return a turn's text, its text parts joined; raises RowError for parts of another kind."""
    content = turn["content"]
    return (
        "".join(map(_part, content)) if isinstance(content, list) else text_in(turn, "content", "a turn's ")
    )


def _part(part: object) -> str:
    if not isinstance(part, dict):
        raise RowError(f"a part of a turn's 'content' is {kind_of(part)}, not an object")
    kind = part.get("type")
    if kind != "text":
        raise RowError(
            "it holds images or other parts that are not text, which cannot be trained on yet", f"{kind!r}"
        )
    return text_in(part, "text", "a part's ")
