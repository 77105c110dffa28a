"""Rows as their files have them, and conversations, the commonest of the forms that a row can mean (see forms.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Row:
    """One row as its file has it, and where it stands."""

    fields: dict[str, Any]
    source: str
    """The file, hub id or `<python>` it comes from."""
    line: int
    """The line in the file, or the row's number where a format has no lines; the first is 1."""
    column: int = 0
    """Where the row begins in its line, for rows that share one with others; 0 for a row with a line of its own."""

    @property
    def place(self) -> str:
        """Where the row stands, as `file:line`, or `file:line:column` where rows share a line."""
        return f"{self.source}:{self.line}" + (f":{self.column}" if self.column else "")


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str
    weight: float | None = None
    """The loss weight of its tokens; left out, 1 for an answer that is trained and 0 for everything else."""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What chat templates read beside role and content: reasoning_content, tool_calls, tool_call_id, name."""


@dataclass(frozen=True)
class Conversation:
    """Turns in order, at most one system message, first; the last turn is the assistant's."""

    messages: tuple[Message, ...]
    place: str
    """Where it comes from, as `file:line`."""
    weight: float = 1.0
    """How many times an epoch sees it; a fraction is a seeded share of the epochs' draws."""
    tools: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    """The functions the assistant may call, as JSON schemas, for templates that show them."""
    task: str = ""
    """The task it belongs to, where the data has several."""


@dataclass(frozen=True)
class Prompt:
    """Token ids to generate from, and the text they came from."""

    ids: tuple[int, ...]
    text: str = field(compare=False, default="")
