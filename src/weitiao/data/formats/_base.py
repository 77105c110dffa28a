"""What a format is: which columns it claims, and how one of its rows becomes a conversation."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..conversation import Conversation, Message, Role, Row

KIND_NAMES: Mapping[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    str: "text",
}


class RowError(Exception):
    """One row cannot be used; `reason` is the same for all rows with this fault, `detail` is this row's
    own."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason} ({detail})" if detail else reason)


class Format(ABC):
    """One form of row; each file in this folder derives one class."""

    columns: ClassVar[tuple[str, ...]]
    """Every column it reads."""
    required: ClassVar[frozenset[str]]
    """The columns without which a row is not of this format."""
    example: ClassVar[str]
    """A row as it should look, for error messages and the docs."""

    def claims(self, columns: set[str]) -> bool:
        """Whether data with these columns has this format."""
        return self.required <= columns

    def reason(self) -> str:
        """Say by what it claims data, in a few words."""
        return "it has " + " and ".join(c for c in self.columns if c in self.required)

    @abstractmethod
    def parse(self, row: Row) -> Conversation:
        """Turn a row into a conversation; raises RowError with the reason."""


LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def kind_of(value: object) -> str:
    """Name a value's kind as a person who writes data knows it."""
    return KIND_NAMES.get(type(value), type(value).__name__)


def text_in(fields: Mapping[str, Any], name: str, owner: str = "") -> str:
    """Return a text field; raises RowError where it is missing or something else. `owner` goes before the
    name."""
    if name not in fields:
        raise RowError(f"{owner}{name!r} is missing", "it has " + (", ".join(map(repr, fields)) or "nothing"))
    value = fields[name]
    if not isinstance(value, str):
        raise RowError(f"{owner}{name!r} is {kind_of(value)} where text was meant", _short(value))
    if LONE_SURROGATE.search(value):
        raise RowError(f"{owner}{name!r} holds half a character (a lone surrogate)", ascii(_short(value)))
    return value


def optional_text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text field, or nothing where it is missing or null; raises RowError where it is something
    else."""
    return "" if fields.get(name) is None else text_in(fields, name)


def list_in(fields: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list field, also from JSON text (a CSV cell); raises RowError where it is missing or something
    else."""
    if name not in fields:
        raise RowError(f"{name!r} is missing", "it has " + (", ".join(map(repr, fields)) or "nothing"))
    value = fields[name]
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise RowError(f"{name!r} is text that is not a JSON list", str(error)) from error
    if not isinstance(value, list):
        raise RowError(f"{name!r} is {kind_of(value)} where a list was meant", _short(value))
    return value


def turns_in(row: Row, column: str, role_key: str, text_key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (role as written, turn) of a column of turns; raises RowError for a turn that is none."""
    turns: list[tuple[str, Mapping[str, Any]]] = []
    for number, turn in enumerate(list_in(row.fields, column), start=1):
        if not isinstance(turn, dict):
            raise RowError(f"a turn in {column!r} is {kind_of(turn)}, not an object", f"turn {number}")
        turns.append((text_in(turn, role_key, "a turn's "), turn))
        if text_key not in turn:
            raise RowError(f"a turn has no {text_key!r}", f"turn {number} has {', '.join(map(repr, turn))}")
    return turns


def role_of(name: str, synonyms: Mapping[str, Role]) -> Role:
    """Return the role a name means; raises RowError for one that is unknown or cannot be trained on yet."""
    role = synonyms.get(name.strip().lower())
    if role is None:
        raise RowError(f"the role {name!r} is unknown", "known are " + ", ".join(synonyms))
    if role == "tool":
        raise RowError("it calls tools, which cannot be trained on yet", f"role {name!r}")
    return role


def conversation(turns: Sequence[tuple[Role, str]], row: Row) -> Conversation:
    """Make a conversation of turns; raises RowError where their order or an empty turn makes it
    untrainable."""
    _check_order([role for role, _ in turns])
    for number, (role, text) in enumerate(turns, start=1):
        if role != "system" and not text.strip():
            raise RowError(
                "an answer is empty" if role == "assistant" else "a question is empty", f"turn {number}"
            )
    kept = [Message(role, text) for role, text in turns if role != "system" or text.strip()]
    return Conversation(tuple(kept), row.place)


def _check_order(roles: Sequence[Role]) -> None:
    """Raise RowError unless the turns are: at most one system, then user and assistant by turns, assistant
    last."""
    if roles.count("system") > 1:
        raise RowError("it has two system messages")
    if "assistant" not in roles:
        raise RowError("it has no answer (no assistant turn)")
    spoken = roles[1:] if roles[0] == "system" else roles
    for position, role in enumerate(spoken):
        wanted = ("user", "assistant")[position % 2]
        if role != wanted:
            number = 1 + position + len(roles) - len(spoken)
            raise RowError("its turns are out of order", f"turn {number} is {role}, where {wanted} was due")
    if roles[-1] != "assistant":
        raise RowError("it ends with a question", "the last turn must be the assistant's")


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
