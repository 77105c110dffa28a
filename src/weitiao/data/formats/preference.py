"""Preference pairs: a prompt, a chosen and a rejected answer, as text or as messages.

If chosen and rejected are whole conversations (lists in UltraFeedback, transcripts in HH-RLHF), their common beginning
is the prompt. Alpaca and ShareGPT rows with chosen and rejected (LLaMA-Factory's ranking) are supported too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..conversation import Message, Row
from ..forms import Preference
from ._base import (
    Format,
    RowError,
    each_of,
    first_of,
    missing,
    needed,
    number_of,
    shortened_value,
    text_in,
    unpacked,
)
from ._calls import TOOLS, tools_in
from ._fields import is_empty, without
from ._prompts import ASKING, PROMPTS, TALKS, answered, history_in, joined, last_answer, prompt_in, said_in
from ._turns import with_system_turn

SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"))
SCORED = ("score", "scores")
"""Columns with both scores: {"chosen": 5, "rejected": 1}."""
REASONS = ("reason", "rationale", "reject_reason", "rejected_reason", "chosen_reason")
REJECTED = ("rejected_response", "rejected_messages")
"""The worse answer, as text or turns, next to a conversation (or question and response) with the better one, as in
ms-swift."""
BETTER = ("response", "output", "answer", "completion")
TOLERANCE = 1e-6
"""The largest difference of two margins that is taken for a rounding error."""


class Preferences(Format):
    """The answers begin where the two conversations diverge; the margin is given, or the difference of the scores."""

    form: ClassVar[str] = "preference"
    columns: ClassVar[tuple[str, ...]] = (
        *ASKING,
        "chosen",
        "rejected",
        *REJECTED,
        *BETTER,
        *(name for pair in SCORES for name in pair),
        *SCORED,
        "margin",
        *REASONS,
        *TOOLS,
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = (
        *(frozenset({name, "chosen", "rejected"}) for name in (*PROMPTS, "conversations", "messages")),
        frozenset({"chosen", "rejected"}),
        *each_of(PROMPTS, BETTER, REJECTED),
        *each_of(TALKS, REJECTED),
    )
    rank: ClassVar[int] = 2
    example: ClassVar[str] = (
        '{"prompt": "Is water wet?", "chosen": "It makes things wet.", "rejected": "No idea."}'
    )

    def read(self, row: Row) -> Preference:
        """Parse a row into a prompt and two answers; raises RowError."""
        fields = row.fields
        prompt, better, worse = _beside(fields) if _has_rejected_alone(fields) else _compared(fields)
        if better == worse:
            raise RowError("'chosen' and 'rejected' are the same")
        whole, chosen = answered(prompt, better)
        return Preference(
            row.place,
            prompt=whole,
            chosen=chosen,
            rejected=answered(prompt, worse)[1],
            margin=_margin(fields),
            reason=joined(*(text_in(fields, name) for name in REASONS if fields.get(name) is not None)),
            tools=tools_in(fields),
        )


Turns = list[Message]


def _has_rejected_alone(fields: Mapping[str, Any]) -> bool:
    return "chosen" not in fields and bool(first_of(REJECTED, fields))


def _beside(fields: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    """Return prompt, chosen and rejected of a row whose conversation ends with the better answer and that has a column
    with a worse one; raises RowError.
    """
    worse = said_in(fields, needed(REJECTED, fields), "assistant")
    if better := first_of(BETTER, fields):
        prompt, answer = prompt_in(fields), said_in(fields, better, "assistant")
    else:
        talk = needed(TALKS, fields)
        turns = [*history_in(fields), *said_in(fields, talk, "user")]
        prompt, answer = last_answer(with_system_turn(fields, turns))
    whole = [*prompt, *answer]
    shared = _shared(whole, worse)
    return (whole[:shared], whole[shared:], worse[shared:]) if shared else (prompt, answer, worse)


def _compared(fields: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    """Return prompt, chosen and rejected of a row with both columns; raises RowError."""
    better, worse = (said_in(fields, name, "assistant") for name in ("chosen", "rejected"))
    return (better, better, worse) if better == worse else _parted(better, worse, fields)


def _parted(better: Turns, worse: Turns, fields: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    """Return prompt, chosen and rejected; the prompt is the common beginning of the two, or a column of its own if they
    begin with the answer; raises RowError."""
    if better[:1] and better[0].role == "assistant":
        prompt = _asked(prompt_in(fields), fields)
        return prompt, better, worse
    shared = _shared(better, worse)
    if shared == 0:
        raise RowError("'chosen' and 'rejected' do not begin with the same question")
    named = prompt_in(without(fields, ("messages", "history")))
    systems = [message for message in named if message.role == "system"]
    prompt = better[:shared]
    asked = [message.content.strip() for message in named if message.role == "user"]
    if asked and asked[-1] not in [message.content.strip() for message in prompt]:
        raise RowError("'chosen' does not begin with 'prompt'")
    before = systems if prompt[0].role != "system" else []
    return [*before, *prompt], better[shared:], worse[shared:]


def _asked(prompt: Turns, fields: Mapping[str, Any]) -> Turns:
    """Return a prompt up to its last question; raises RowError if it has no question."""
    if not any(message.role == "user" for message in prompt):
        raise missing(" or ".join(map(repr, PROMPTS)), fields)
    # In UltraFeedback, `messages` next to the pair often ends with the chosen answer.
    answers_it = prompt[-1].role == "assistant" and "messages" in fields
    return prompt[:-1] if answers_it else prompt


def _shared(better: Sequence[Message], worse: Sequence[Message]) -> int:
    """Return how many turns two conversations share, such that both continue with an answer."""
    shared = 0
    for one, other in zip(better, worse, strict=False):
        if one != other:
            break
        shared += 1
    while shared and not _both_answer(better[shared:], worse[shared:]):
        shared -= 1
    return shared


def _both_answer(better: Sequence[Message], worse: Sequence[Message]) -> bool:
    return all(rest[:1] and rest[0].role == "assistant" for rest in (better, worse))


def _margin(fields: Mapping[str, Any]) -> float:
    """Return the margin of the chosen answer from `margin` or scores, 0 if there are none; raises RowError, also if two
    columns contradict each other.
    """
    said = {"margin": number_of(fields["margin"], "'margin'")} if fields.get("margin") is not None else {}
    for pair in SCORES:
        given = [name for name in pair if fields.get(name) is not None]
        if len(given) == 1:
            raise RowError(f"of {pair[0]!r} and {pair[1]!r}, only one is given", given[0])
        if given:
            better, worse = (number_of(fields[name], repr(name)) for name in pair)
            said[pair[0]] = better - worse
    for name in SCORED:
        both = unpacked(fields[name], name) if name in fields else None
        if isinstance(both, dict) and {"chosen", "rejected"} <= both.keys():
            chosen, rejected = (
                number_of(both[side], f"an item of {name!r}") for side in ("chosen", "rejected")
            )
            said[name] = chosen - rejected
        elif not is_empty(both):
            raise RowError(
                f"{name!r} is not an object with two numbers, chosen and rejected", shortened_value(both)
            )
    if len(said) > 1 and max(said.values()) - min(said.values()) > TOLERANCE:
        raise RowError("margin and scores contradict each other", shortened_value(said))
    return next(iter(said.values()), 0.0)
