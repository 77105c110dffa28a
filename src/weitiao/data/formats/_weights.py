"""Reads loss weights of turns and rows, under the names that training tools use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..conversation import Message
from ._base import RowError, kind_of, number_of, shortened_value, truth_of, unpacked
from ._fields import is_empty
from ._known import LOSS_MASK, LOSS_WEIGHTS, NOT_TRAINED, TRAINED, WEIGHTS

MOST_WEIGHT = 10_000
"""The same limit as for a source's weight; with a far larger weight, a float32 loss overflows."""


def weight_in(fields: Mapping[str, Any], owner: str = "") -> float | None:
    """Return the loss weight of a turn or row, None if it has none; raises RowError, also if two keys contradict each
    other.

    `owner` is set for a turn, and precedes the key in errors.
    """
    if fields.keys().isdisjoint(WEIGHTS):
        return None
    given: dict[str, float] = {}
    for name in LOSS_WEIGHTS:
        if name in fields and not is_empty(fields.get(name)):
            given[name] = weight_of(fields[name], f"{owner}{name!r}")
    for name in TRAINED:
        if name in fields and not is_empty(fields.get(name)):
            given[name] = float(truth_of(fields[name], f"{owner}{name!r}"))
    for name in NOT_TRAINED if owner else ():
        if name in fields and not is_empty(fields.get(name)) and truth_of(fields[name], f"{owner}{name!r}"):
            given[name] = 0.0
    if owner and LOSS_MASK in fields and not is_empty(fields.get(LOSS_MASK)):
        given[LOSS_MASK] = _mask_of(fields[LOSS_MASK], f"{owner}{LOSS_MASK!r}")
    if len(set(given.values())) > 1:
        said = ", ".join(f"{name} {weight:g}" for name, weight in given.items())
        what = (
            "a turn's weights contradict each other" if owner else "the row's weights contradict each other"
        )
        raise RowError(what, said)
    return next(iter(given.values()), None)


def weight_of(value: object, what: str) -> float:
    """Return a number or boolean as a loss weight, 0 to `MOST_WEIGHT`; raises RowError, which names it `what`."""
    weight = number_of(float(value) if isinstance(value, bool) else value, what)
    if weight < 0:
        raise RowError(f"{what} is below 0", shortened_value(value))
    if weight > MOST_WEIGHT:
        raise RowError(f"{what} is above {MOST_WEIGHT:,}", shortened_value(value))
    return weight


def _mask_of(value: object, what: str) -> float:
    """Return 1 for trained and 0 for not trained; raises RowError for true and false, whose meaning differs between
    tools.
    """
    if isinstance(value, bool):
        raise RowError(
            f"{what} is true or false, whose meaning differs between tools; write 1 for trained, 0 for not"
        )
    number = number_of(value, what)
    if number not in (0, 1):
        raise RowError(f"{what} is neither 0 nor 1", shortened_value(value))
    return number


def masked(turns: Sequence[Sequence[Message]], fields: Mapping[str, Any]) -> list[Message]:
    """Return the messages of all turns, weighted by the row's `loss_mask`; raises RowError unless it is a list of one 0
    or 1 per turn.
    """
    if LOSS_MASK not in fields or is_empty(fields.get(LOSS_MASK)):
        return [message for turn in turns for message in turn]
    mask = unpacked(fields[LOSS_MASK], LOSS_MASK)
    if not isinstance(mask, list):
        raise RowError(f"{LOSS_MASK!r} must be a list, not {kind_of(mask)}", shortened_value(mask))
    if len(mask) != len(turns):
        raise RowError(
            f"{LOSS_MASK!r} does not have one number per turn", f"{len(mask)} for {len(turns)} turns"
        )
    return [
        _weighed(message, _mask_of(own, f"an item of {LOSS_MASK!r}"))
        for turn, own in zip(turns, mask, strict=True)
        for message in turn
    ]


def _weighed(message: Message, mask: float) -> Message:
    """Return a message with the weight of a mask; raises RowError if its own weight contradicts it.

    0 changes nothing for a message that is not the assistant's, as it is not trained anyway.
    """
    if message.role != "assistant" and mask == 0:
        return message
    if message.weight is not None and (message.weight > 0) != (mask > 0):
        raise RowError(f"a turn's weight and {LOSS_MASK!r} contradict each other")
    return message if message.weight is not None else replace(message, weight=mask)


def weighted(turns: Sequence[Message], fields: Mapping[str, Any]) -> list[Message]:
    """Return turns with the weights of answers multiplied by the row's weight, if it has one; raises RowError."""
    weight = weight_in(fields)
    if weight is None:
        return list(turns)
    return [
        replace(one, weight=weight * (1.0 if one.weight is None else one.weight))
        if one.role == "assistant"
        else one
        for one in turns
    ]
