"""ChatGPT's export, `conversations.json`: a tree of messages in `mapping`, of which one path is the conversation.

The path leads from the root to `current_node`; regenerated answers and edited questions are on other branches. What
users told ChatGPT about themselves (custom instructions, memory) becomes the system message. Thoughts become the
reasoning of the next answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Conversation, Message, Role, Row
from ._base import Format, RowError, kind_of, missing, shortened_value, text_in, text_of, unpacked
from ._fields import is_empty, noted_within
from ._prompts import joined
from ._turns import ROLES, conversation

ABOUT = {
    "user_editable_context": ("user_profile", "user_instructions"),
    "model_editable_context": ("model_set_context",),
}
"""A content type -> its keys with text: what users told about themselves, or what the model remembered."""
TEXTS = ("text", "multimodal_text", "code")
THOUGHTS, THOUGHT_LENGTH = "thoughts", "reasoning_recap"
EVERYONE = ("all", "", None)
"""Values of `recipient` for a message that calls no tool."""
OTHER_BRANCHES = "other_branches"


class ChatGPT(Format):
    """Reads the path from the root to the current message; messages on other branches are reported as unused."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = ("mapping", "current_node")
    ways: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"mapping", "current_node"}),)
    rank: ClassVar[int] = 2
    example: ClassVar[str] = (
        '{"mapping": {"0": {"parent": null, "children": ["1"], "message": {"author": {"role": "user"},'
        ' "content": {"content_type": "text", "parts": ["Hi"]}}}, "1": {"parent": "0", "children": [],'
        ' "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["Hello!"]}}}},'
        ' "current_node": "1"}'
    )

    def read(self, row: Row) -> Conversation:
        """Parse a row into the conversation that ends at its current message; raises RowError."""
        fields = row.fields
        if "mapping" not in fields:
            raise missing("'mapping'", fields)
        nodes = unpacked(fields["mapping"], "mapping")
        if not isinstance(nodes, dict):
            raise RowError(f"'mapping' must be an object, not {kind_of(nodes)}", shortened_value(nodes))
        path = _path(nodes, fields.get("current_node"))
        if any(_says(node) for name, node in nodes.items() if name not in path):
            noted_within(fields, "mapping", {OTHER_BRANCHES: True})
        return conversation(_turns(fields, [nodes[name] for name in path]), row)


def _path(nodes: Mapping[str, Any], last: object) -> list[str]:
    """Return the names of the nodes from the root to `last`; raises RowError if one is missing, or if they form a
    cycle."""
    path: list[str] = []
    name = last
    while name is not None:
        if not isinstance(name, str) or name not in nodes or not isinstance(nodes[name], dict):
            raise RowError("'mapping' lacks a message that the conversation refers to", shortened_value(name))
        if name in path:
            raise RowError("the messages of 'mapping' form a cycle", shortened_value(name))
        path.append(name)
        name = nodes[name].get("parent")
    if not path:
        raise RowError("'current_node' names no message")
    return path[::-1]


def _says(node: object) -> bool:
    return isinstance(node, dict) and not is_empty(node.get("message"))


def _turns(row: Mapping[str, Any], nodes: list[dict[str, Any]]) -> list[Message]:
    """Return the turns of a path; raises RowError for content other than text, and for calls of ChatGPT's own tools."""
    system: list[str] = []
    thoughts: list[str] = []
    turns: list[Message] = []
    for node in nodes:
        if is_empty(node.get("message")):
            continue
        message = _inner(row, "mapping", node["message"])
        # Marks the messages that ChatGPT itself saw; it is no loss weight, and read so that it is not refused as one.
        message.get("weight")
        content = _inner(message, "content", message.get("content"))
        role, kind = _role(message), content.get("content_type")
        if kind == THOUGHTS:
            thoughts += _thoughts(content)
            continue
        texts = [content.get(name) for name in ABOUT[kind]] if kind in ABOUT else [_text(content, kind)]
        text = "\n\n".join(text_of(one, "a message's content") for one in texts if not is_empty(one))
        if not text:
            continue
        if kind in ABOUT or (role == "system" and not turns):
            system.append(text)
            continue
        if role == "tool" or message.get("recipient") not in EVERYONE:
            raise RowError(
                "it calls ChatGPT's built-in tools, which the data does not describe", shortened_value(text)
            )
        extra = {"reasoning_content": "\n\n".join(thoughts)} if thoughts and role == "assistant" else {}
        thoughts = [] if extra else thoughts
        turns.append(Message(role, text, None, extra))
    return [Message("system", "\n\n".join(system)), *turns] if system else turns


def _inner(fields: Mapping[str, Any], name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RowError(
            f"a message of 'mapping' must be an object, not {kind_of(value)}", shortened_value(value)
        )
    return noted_within(fields, name, value)


def _role(message: Mapping[str, Any]) -> Role:
    role = text_in(_inner(message, "author", message.get("author")), "role", "a turn's ")
    if role not in ROLES:
        raise RowError(f"the role {shortened_value(role)} is unknown", f"known roles are {', '.join(ROLES)}")
    return ROLES[role]


def _text(content: Mapping[str, Any], kind: object) -> str:
    """Return a message's text, "" if it has none; raises RowError for images and other content."""
    if kind == THOUGHT_LENGTH:
        content.get("content")  # read so that it does not count as unused
        return ""
    parts = content.get("parts") if "parts" in content else [content.get("text", "")]
    if kind not in TEXTS or not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise RowError(
            "it holds images or other parts that are not text, which cannot be trained on yet", f"{kind!r}"
        )
    return "\n".join(part for part in parts if part.strip())


def _thoughts(content: Mapping[str, Any]) -> list[str]:
    """Return the thoughts of a message, each with its summary before it; raises RowError."""
    thoughts = content.get("thoughts")
    if not isinstance(thoughts, list):
        raise RowError("a message's 'thoughts' is not a list", shortened_value(thoughts))
    said = [_inner(content, "thoughts", thought) for thought in thoughts]
    return [joined(*(text_in(one, name) for name in ("summary", "content") if one.get(name))) for one in said]
