"""Answers with rewards: several to a prompt with a list of scores, or one with its reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Message, Row
from ..forms import Scored
from ._base import Format, RowError, each_of, first_of, kind_of, list_in, missing, needed, number_of
from ._calls import TOOLS, tools_in
from ._prompts import (
    ASKING,
    PROMPTS,
    TALKS,
    answered,
    history_in,
    last_answer,
    one_question,
    said_by,
    said_in,
)
from ._turns import messages_in, with_system_turn

MANY, MANY_SCORES = ("completions", "responses"), ("rewards", "scores")
ONE, ONE_SCORE = ("completion", "response", "answer", "output"), "reward"


class RewardScored(Format):
    """Every answer has a score; higher is better."""

    form: ClassVar[str] = "scored"
    columns: ClassVar[tuple[str, ...]] = (*ASKING, *MANY, *ONE, *MANY_SCORES, ONE_SCORE, *TOOLS)
    ways: ClassVar[tuple[frozenset[str], ...]] = (
        *each_of(PROMPTS, MANY, MANY_SCORES),
        *each_of(PROMPTS, ONE, (ONE_SCORE,)),
        *each_of(TALKS, (ONE_SCORE,)),
    )
    example: ClassVar[str] = (
        '{"prompt": "Is water wet?", "completions": ["It wets.", "No idea."], "rewards": [0.9, 0.1]}'
    )

    def read(self, row: Row) -> Scored:
        """Parse a row into a prompt and its answers with their scores; raises RowError."""
        prompts, scores = _answered(row)
        return Scored(
            row.place,
            prompt=prompts[0][0],
            completions=tuple(c for _, c in prompts),
            scores=scores,
            tools=tools_in(row.fields),
        )


Turns = tuple[Message, ...]


def _answered(row: Row) -> tuple[list[tuple[Turns, Turns]], tuple[float, ...]]:
    """Return (prompt, answer) for each answer, at least one, and the score of each; raises RowError."""
    fields = row.fields
    if not first_of((*MANY, *ONE), fields) and first_of(TALKS, fields):
        turns = [*history_in(fields), *messages_in(fields, needed(TALKS, fields))]
        return [answered(*last_answer(with_system_turn(fields, turns)))], (_reward(fields),)
    answers, scores = _answers(fields)
    return [one_question(row, answer) for answer in answers], scores


def _reward(fields: Mapping[str, Any]) -> float:
    if ONE_SCORE not in fields:
        raise missing(repr(ONE_SCORE), fields)
    return number_of(fields[ONE_SCORE], repr(ONE_SCORE))


def _answers(fields: Mapping[str, Any]) -> tuple[list[list[Message]], tuple[float, ...]]:
    """Return the answers, at least one, and the score of each; raises RowError."""
    many = first_of(MANY, fields)
    if not many:
        reward = _reward(fields)
        return [said_in(fields, needed(ONE, fields), "assistant")], (reward,)
    scored = needed(MANY_SCORES, fields)
    answers, scores = list_in(fields, many), list_in(fields, scored)
    if not answers:
        raise RowError(f"{many!r} is an empty list")
    if len(answers) != len(scores):
        raise RowError(f"{many!r} and {scored!r} have different lengths", f"{len(answers)} and {len(scores)}")
    wrong = [kind_of(answer) for answer in answers if answer is None or isinstance(answer, bool)]
    if wrong:
        raise RowError(f"{many!r} must hold answers, not {wrong[0]}")
    said = [said_by(answer, many, "assistant", fields) for answer in answers]
    return said, tuple(number_of(score, f"an item of {scored!r}") for score in scores)
