"""What every metric says of the answers before and after training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .answers import Answer
from .metrics import METRICS


@dataclass(frozen=True)
class AnswerScore:
    """The value of one metric over the same questions, before and after training."""

    metric: str
    """The metric's name."""
    before: float
    after: float

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the event that reports it."""
        return asdict(self)

    def row(self) -> list[str]:
        """Return its row for a person: title with the better direction, before, after."""
        metric = METRICS.load(self.metric)()
        direction = "higher is better" if metric.higher_is_better else "lower is better"
        return [f"{metric.title} ({direction})", metric.written(self.before), metric.written(self.after)]


def score_answers(answers: Sequence[Answer]) -> list[AnswerScore]:
    """Return the score of each metric, over the answers that have a reference; empty if none has."""
    compared = [answer for answer in answers if answer.reference]
    references = [answer.reference for answer in compared]
    found = []
    for name in METRICS.names():
        metric = METRICS.load(name)()
        before = metric.of([answer.before for answer in compared], references)
        after = metric.of([answer.after for answer in compared], references)
        if before is not None and after is not None:
            found.append(AnswerScore(name, before, after))
    return found


def scores_of(fields: Iterable[Mapping[str, Any]]) -> list[AnswerScore]:
    """Return scores from the fields of an event, without metrics that are not known here."""
    return [AnswerScore(**one) for one in fields if METRICS.spelling(str(one["metric"])) is not None]
