"""Answers with rewards: several to a prompt with a list of scores, or one with its reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Message, Row
from ..forms import Scored
from ._base import Format, RowError, each_of, first_of, kind_of, list_in, missing, needed, number_of
from ._prompts import ASKING, PROMPTS, one_question, said_by, said_in
from ._turns import TOOLS, tools_in

MANY, MANY_SCORES = ("completions", "responses"), ("rewards", "scores")
ONE, ONE_SCORE = ("completion", "response", "answer", "output"), "reward"


class RewardScored(Format):
    """Every answer has a number, the higher the better."""

    form: ClassVar[str] = "scored"
    columns: ClassVar[tuple[str, ...]] = (*ASKING, *MANY, *ONE, *MANY_SCORES, ONE_SCORE, *TOOLS)
    ways: ClassVar[tuple[frozenset[str], ...]] = (
        *each_of(PROMPTS, MANY, MANY_SCORES),
        *each_of(PROMPTS, ONE, (ONE_SCORE,)),
    )
    example: ClassVar[str] = (
        '{"prompt": "Is water wet?", "completions": ["It wets.", "No idea."], "rewards": [0.9, 0.1]}'
    )

    def read(self, row: Row) -> Scored:
        """Turn a row into a prompt and its answers with their scores; raises RowError."""
        answers, scores = _answers(row.fields)
        prompts = [one_question(row, answer) for answer in answers]
        return Scored(
            row.place,
            prompt=prompts[0][0],
            completions=tuple(c for _, c in prompts),
            scores=scores,
            tools=tools_in(row.fields),
        )


def _answers(fields: Mapping[str, Any]) -> tuple[list[list[Message]], tuple[float, ...]]:
    """Return the answers, at least one, and as many scores; raises RowError."""
    many = first_of(MANY, fields)
    if not many:
        if ONE_SCORE not in fields:
            raise missing(repr(ONE_SCORE), fields)
        answer = said_in(fields, needed(ONE, fields), "assistant")
        return [answer], (number_of(fields[ONE_SCORE], repr(ONE_SCORE)),)
    scored = needed(MANY_SCORES, fields)
    answers, scores = list_in(fields, many), list_in(fields, scored)
    if not answers:
        raise RowError(f"{many!r} is an empty list")
    if len(answers) != len(scores):
        raise RowError(f"{many!r} and {scored!r} are not equally many", f"{len(answers)} and {len(scores)}")
    wrong = [kind_of(answer) for answer in answers if not isinstance(answer, str | list | dict)]
    if wrong:
        raise RowError(f"{many!r} holds {wrong[0]} where an answer was meant")
    said = [said_by(answer, many, "assistant") for answer in answers]
    return said, tuple(number_of(score, f"one of {scored!r}") for score in scores)
