"""Gives tool calls the ids that a template requires: new ids if the data has none, rewritten ids if it rejects them.

Mistral's templates refuse calls whose id is not nine letters and digits. Most data has ids of another form, or none.
A new id depends only on the position and name of the call, so training and serving give a conversation the same ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count, takewhile
from string import ascii_letters, digits
from typing import Any

from ..conversation import Message
from ..formats._base import RowError
from .spans import Write

NINE = re.compile("[A-Za-z0-9]{9}")
SHORT, LONG = "weitiaoA1", "call_weitiao0123456789"
SIGNS = digits + ascii_letters


@dataclass(frozen=True)
class CallIds:
    """What a template requires of the ids of tool calls and tool results."""

    are_wanted: bool = False
    """Whether it refuses calls without ids, or writes the ids into the text."""
    are_short: bool = False
    """Whether it accepts only ids of nine letters and digits."""

    def given_to(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return messages whose calls and results have ids that the template accepts; a result has its call's id."""
        if not self.are_wanted or not any(
            message.role == "tool" or message.extra.get("tool_calls") for message in messages
        ):
            return messages
        done = list(messages)
        number = count()
        for place, message in enumerate(messages):
            calls = message.extra.get("tool_calls")
            if not isinstance(calls, Sequence):
                done[place] = self._alone(done[place], place)
                continue
            results = list(takewhile(lambda one: one.role == "tool", messages[place + 1 :]))
            ids = self._ids(calls, results, number)
            done[place] = replace(message, extra={**message.extra, "tool_calls": _with_ids(calls, ids)})
            own = self._of_results(calls, results, ids)
            done[place + 1 : place + 1 + len(results)] = [
                _with_id(one, new) for one, new in zip(results, own, strict=True)
            ]
        return done

    def _alone(self, message: Message, place: int) -> Message:
        """Give an accepted id to a result that follows no structured call (the call may be written as text)."""
        if message.role != "tool":
            return message
        old = str(message.extra.get("tool_call_id") or "")
        return _with_id(message, self._taken(old) if old else _nine(f"result {place}"))

    def _ids(self, calls: Sequence[Any], results: Sequence[Message], number: count[int]) -> list[str]:
        """Return an id for each call: its own, else that of its result, else a new one."""
        own = [_id_of(call) for call in calls]
        theirs = [str(result.extra.get("tool_call_id") or "") for result in results]
        free = iter([one for one in theirs if one and one not in own])
        if all(not one for one in own) and len(set(filter(None, theirs))) == len(calls):
            own = list(free)
        return [
            self._taken(one) if one else _nine(f"{next(number)} {_name_of(call)}")
            for call, one in zip(calls, own, strict=True)
        ]

    def _of_results(self, calls: Sequence[Any], results: Sequence[Message], ids: Sequence[str]) -> list[str]:
        """Return each result's id: that of the call with the same old id, else the same name, else the next call."""
        new_of = {_id_of(call): new for call, new in zip(calls, ids, strict=True) if _id_of(call)}
        olds = [str(result.extra.get("tool_call_id") or "") for result in results]
        known = [new_of.get(old) or (self._taken(old) if self._taken(old) in ids else "") for old in olds]
        left = [(_name_of(call), new) for call, new in zip(calls, ids, strict=True) if new not in known]
        given: list[str] = []
        for result, old, new in zip(results, olds, known, strict=True):
            if not new and left:
                named = next((one for one in left if one[0] == result.extra.get("name")), left[0])
                left.remove(named)
                new = named[1]
            given.append(new or (self._taken(old) if old else _nine(f"result {len(given)}")))
        return given

    def _taken(self, old: str) -> str:
        """Return an id in a form that the template accepts."""
        return _nine(old) if self.are_short and not NINE.fullmatch(old) else old


def wanted_ids(write: Write) -> CallIds:
    """Return what a template requires, by rendering calls with short ids, with none, and with long ones."""
    short, none, long = (_written(write, one) for one in (SHORT, "", LONG))
    if short is None:
        return CallIds()
    wanted = none is None or SHORT in short
    return CallIds(wanted, wanted and long is None)


def _written(write: Write, own: str) -> str | None:
    """Return the text of a probe conversation whose call has an id; None if the template refuses it."""
    call = {"type": "function", "function": {"name": "weitiaocall", "arguments": {}}}
    ids = {"tool_call_id": own} if own else {}
    messages = [
        Message("user", "weitiao"),
        Message("assistant", "", extra={"tool_calls": [{**call, "id": own} if own else call]}),
        Message("tool", "weitiao", extra={**ids, "name": "weitiaocall"}),
        Message("assistant", "weitiao"),
    ]
    try:
        return write(messages, False)
    except RowError:
        return None


def _with_id(message: Message, own: str) -> Message:
    return replace(message, extra={**message.extra, "tool_call_id": own})


def _with_ids(calls: Sequence[Any], ids: Sequence[str]) -> list[Any]:
    return [
        {**call, "id": own} if isinstance(call, Mapping) else call
        for call, own in zip(calls, ids, strict=True)
    ]


def _id_of(call: object) -> str:
    return str(call.get("id") or "") if isinstance(call, Mapping) else ""


def _name_of(call: object) -> str:
    if not isinstance(call, Mapping):
        return ""
    function = call.get("function", call)
    return str(function.get("name") or "") if isinstance(function, Mapping) else ""


def _nine(text: str) -> str:
    """Return nine letters and digits, derived from a hash of a text."""
    number = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return "".join(SIGNS[number // len(SIGNS) ** place % len(SIGNS)] for place in range(9))
