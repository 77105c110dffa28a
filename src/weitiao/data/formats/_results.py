"""Sorts tool results into the order of the tool calls before them, by ids or names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from ..conversation import Message
from ._base import RowError, shortened_value


def with_results_in_order(turns: Sequence[Message]) -> list[Message]:
    """Return turns with tool results in the order of their calls, as chat templates that print no ids need them; raises
    RowError for ids that belong to no call, or to several.
    """
    ordered = list(turns)
    for place, message in enumerate(turns):
        calls = message.extra.get("tool_calls") if message.extra else None
        if calls:
            results = list(takewhile(lambda one: one.role == "tool", turns[place + 1 :]))
            ordered[place + 1 : place + 1 + len(results)] = _in_order(calls, results)
    return ordered


def _in_order(calls: Sequence[Mapping[str, Any]], results: Sequence[Message]) -> list[Message]:
    """Return the results of one answer's calls in the order of the calls; results that name no call fill the gaps."""
    ids = [str(call["id"]) if call.get("id") is not None else "" for call in calls]
    given = [str(one.extra.get("tool_call_id", "")) for one in results]
    _require_own_ids(ids, given)
    names = [call["function"]["name"] for call in calls]
    places = [_place(one, own, ids, names) for one, own in zip(results, given, strict=True)]
    free = iter([place for place in range(len(calls)) if place not in places])
    taken = [next(free, len(calls)) if place < 0 else place for place in places]
    return [one for _, one in sorted(zip(taken, results, strict=True), key=lambda pair: pair[0])]


def _require_own_ids(ids: Sequence[str], given: Sequence[str]) -> None:
    """Raise RowError if ids are not unique, a result's id belongs to no call, or a call has no result."""
    if not any(given):
        return
    if twice := _twice(ids):
        raise RowError("two calls of one answer have the same id", shortened_value(twice))
    if twice := _twice(given):
        raise RowError("two tool results have the same tool_call_id", shortened_value(twice))
    if not all(ids):
        return
    strange = next((one for one in given if one and one not in ids), "")
    if strange:
        raise RowError(
            "a tool result's tool_call_id belongs to no call of the answer before it",
            f"{shortened_value(strange)}, the calls are {shortened_value(list(ids))}",
        )
    if all(given) and len(given) < len(ids):
        missed = next(one for one in ids if one not in given)
        raise RowError("its turns are out of order: a call without its result", shortened_value(missed))


def _place(result: Message, own: str, ids: Sequence[str], names: Sequence[str]) -> int:
    """Return the index of a result's call, found by its id or by a name that only one call has; -1 if unknown."""
    if own and own in ids:
        return ids.index(own)
    name = result.extra.get("name")
    return names.index(name) if names.count(str(name)) == 1 else -1


def _twice(values: Sequence[str]) -> str:
    return next((one for one in values if one and values.count(one) > 1), "")
