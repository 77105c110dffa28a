"""Preference pairs: a prompt, a chosen and a rejected answer, as text or as messages.

Where chosen and rejected are whole conversations (UltraFeedback's lists, HH-RLHF's transcripts), what they share at
their beginning is the prompt. Alpaca and ShareGPT rows with chosen and rejected (LLaMA-Factory's ranking) are read too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..conversation import Message, Row
from ..forms import Preference
from ._base import Format, RowError, first_of, missing, number_of, text_in
from ._prompts import ASKING, PROMPTS, answered, prompt_in, said_in
from ._turns import TOOLS, tools_in

SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"))
REASONS = ("reason", "rationale")


class Preferences(Format):
    """The answers begin where the two conversations part; the margin is the difference of their scores."""

    form: ClassVar[str] = "preference"
    columns: ClassVar[tuple[str, ...]] = (
        *ASKING,
        "chosen",
        "rejected",
        *(name for pair in SCORES for name in pair),
        "margin",
        *REASONS,
        *TOOLS,
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = (
        *(frozenset({name, "chosen", "rejected"}) for name in (*PROMPTS, "conversations", "messages")),
        frozenset({"chosen", "rejected"}),
    )
    rank: ClassVar[int] = 2
    example: ClassVar[str] = (
        '{"prompt": "Is water wet?", "chosen": "It makes things wet.", "rejected": "No idea."}'
    )

    def read(self, row: Row) -> Preference:
        """Turn a row into a prompt and two answers; raises RowError."""
        fields = row.fields
        better, worse = (said_in(fields, name, "assistant") for name in ("chosen", "rejected"))
        if better == worse:
            raise RowError("'chosen' and 'rejected' are the same")
        prompt, better, worse = _parted(better, worse, fields)
        whole, chosen = answered(prompt, better)
        reason = first_of(REASONS, fields)
        return Preference(
            row.place,
            prompt=whole,
            chosen=chosen,
            rejected=answered(prompt, worse)[1],
            margin=_margin(fields),
            reason=text_in(fields, reason) if reason else "",
            tools=tools_in(fields),
        )


Turns = list[Message]


def _parted(better: Turns, worse: Turns, fields: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    """Return prompt, chosen and rejected, the prompt taken from what the two share where they hold it; raises
    RowError."""
    if better[:1] and better[0].role == "assistant":
        prompt = _asked(prompt_in(fields), fields)
        return prompt, better, worse
    shared = _shared(better, worse)
    if shared == 0:
        raise RowError("'chosen' and 'rejected' do not begin with the same question")
    named = prompt_in({name: value for name, value in fields.items() if name not in ("messages", "history")})
    systems = [message for message in named if message.role == "system"]
    prompt = better[:shared]
    asked = [message.content.strip() for message in named if message.role == "user"]
    if asked and asked[-1] not in [message.content.strip() for message in prompt]:
        raise RowError("'prompt' is not how 'chosen' begins")
    before = systems if prompt[0].role != "system" else []
    return [*before, *prompt], better[shared:], worse[shared:]


def _asked(prompt: Turns, fields: Mapping[str, Any]) -> Turns:
    """Return a prompt up to its last question; raises RowError where the row has none."""
    if not any(message.role == "user" for message in prompt):
        raise missing(" or ".join(map(repr, PROMPTS)), fields)
    # A list of messages beside the pair often ends with the chosen answer (UltraFeedback).
    answers_it = prompt[-1].role == "assistant" and "messages" in fields
    return prompt[:-1] if answers_it else prompt


def _shared(better: Sequence[Message], worse: Sequence[Message]) -> int:
    """Return how many turns two conversations share before an answer of each."""
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
    """Return by how much the chosen answer is better, 0 where nothing says it; raises RowError."""
    if fields.get("margin") is not None:
        return number_of(fields["margin"], "'margin'")
    for better, worse in SCORES:
        if fields.get(better) is not None and fields.get(worse) is not None:
            return number_of(fields[better], repr(better)) - number_of(fields[worse], repr(worse))
    return 0.0
