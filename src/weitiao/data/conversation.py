"""Raw rows as read from a file, and conversations, the most common of the forms a row is parsed into (see forms.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Row:
    """One raw row and its location in the file."""

    fields: dict[str, Any]
    source: str
    """The file, hub id or `<python>` it comes from."""
    line: int
    """The line in the file, or the row number for formats without lines; counted from 1."""
    number: int = 0
    """Its number among the rows that begin on this line, from 1; 0 for a row with a line of its own."""

    @property
    def place(self) -> str:
        """The row's location, as `place_of` writes it."""
        return place_of(self.source, self.line, self.number)


def place_of(source: str, line: int, number: int = 0) -> str:
    """Return a row's location: `file:line`; where rows share a line, `file, row 12` (line 1) or `file:line, row 12`."""
    if not number:
        return f"{source}:{line}"
    return f"{source}, row {number}" if line == 1 else f"{source}:{line}, row {number}"


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str
    weight: float | None = None
    """The loss weight of its tokens; None means 1 for an answer that is trained and 0 for everything else."""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Keys that chat templates read besides role and content: reasoning_content, tool_calls, tool_call_id, name."""


@dataclass(frozen=True)
class Conversation:
    """Turns in order: at most one system message, which comes first; the last turn is the assistant's."""

    messages: tuple[Message, ...]
    place: str
    """The location of its row, as `file:line`."""
    draws: float = 1.0
    """How many times it is drawn per epoch; with a fraction, the seed decides in which epochs it is drawn."""
    tools: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    """The functions the assistant may call, as JSON schemas, for templates that list them."""
    task: str = ""
    """The task it belongs to, if the data has several."""


@dataclass(frozen=True)
class Prompt:
    """Token ids to generate from, and the text they encode."""

    ids: tuple[int, ...]
    text: str = field(compare=False, default="")
