"""What holds for every metric of answers: direction, bounds at perfect answers, order, nothing to compare."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from weitiao.core.events import Event
from weitiao.engine.runtime.tracking import numbers_of_event
from weitiao.evaluation.answer_scores import AnswerScore, score_answers, scores_of
from weitiao.evaluation.answers import Answer
from weitiao.evaluation.metrics import METRICS
from weitiao.evaluation.metrics._base import Metric

REFERENCES = [
    "Paris.",
    "The capital of France is Paris, on the Seine.",
    "我是小微，由微调团队训练的助手。",
    "42",
    "a b a b a",
    "?!",
    "🙂 🙂",
    "line one\nline two\ttabbed",
]
WRONG = ["", " ", "qq", "不对", "🙃", "zz zz zz zz zz zz zz zz zz zz zz zz"]

every_metric = pytest.mark.parametrize("name", METRICS.names())


def load(name: str) -> Metric:
    return METRICS.load(name)()


def value(metric: Metric, answers: list[str], references: list[str]) -> float:
    found = metric.of(answers, references)
    assert found is not None
    return found


def is_better(metric: Metric, one: float, other: float) -> bool:
    return one > other if metric.higher_is_better else one < other


@every_metric
def test_perfect_answers_are_the_best_there_are_and_each_wrong_one_is_worse(name: str) -> None:
    metric = load(name)
    best = value(metric, REFERENCES, REFERENCES)
    for at, wrong in itertools.product(range(len(REFERENCES)), WRONG):
        spoilt = [*REFERENCES[:at], wrong, *REFERENCES[at + 1 :]]
        assert is_better(metric, best, value(metric, spoilt, REFERENCES)), (REFERENCES[at], wrong)
    assert not any(is_better(metric, value(metric, [one], ["Paris."]), best) for one in [*REFERENCES, *WRONG])


@every_metric
def test_more_wrong_answers_are_never_better(name: str) -> None:
    metric = load(name)
    values = [
        value(metric, [*["qq"] * wrong, *REFERENCES[wrong:]], REFERENCES) for wrong in range(len(REFERENCES))
    ]
    assert all(is_better(metric, one, other) for one, other in itertools.pairwise(values))


@every_metric
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    metric = load(name)
    answers = [*WRONG, *REFERENCES[: len(REFERENCES) - len(WRONG)]]
    pairs = list(zip(answers, REFERENCES, strict=True))
    wanted = value(metric, answers, REFERENCES)
    for seed in range(5):
        random.Random(seed).shuffle(pairs)
        assert value(metric, *map(list, zip(*pairs, strict=True))) == wanted


@every_metric
def test_nothing_to_compare_is_no_number_and_empty_answers_are_one(name: str) -> None:
    metric = load(name)
    assert metric.of([], []) is None
    for answers in ([""] * len(REFERENCES), [" \n"] * len(REFERENCES)):
        assert metric.written(value(metric, answers, REFERENCES))
    assert is_better(metric, value(metric, ["x"], ["x"]), value(metric, [""], ["x"]))
    with pytest.raises(ValueError, match="zip"):
        metric.of(["one"], ["one", "two"])


@every_metric
def test_a_metric_says_what_it_is(name: str) -> None:
    metric = load(name)
    assert METRICS.summary(name).endswith(".")
    assert metric.title.isascii()
    assert isinstance(metric.higher_is_better, bool)
    better = "higher" if metric.higher_is_better else "lower"
    row = AnswerScore(name, 0.0, 1.0).row()
    assert row == [f"{metric.title} ({better} is better)", metric.written(0.0), metric.written(1.0)]


ANSWER = Answer("q", "It is Paris.", "No idea.", "It is  Paris.\n")


def test_every_metric_scores_the_answers_that_have_a_reference() -> None:
    unasked = replace(ANSWER, reference="", after="anything")
    scores = score_answers([ANSWER, unasked])
    assert scores == score_answers([ANSWER])
    assert [score.metric for score in scores] == METRICS.names()
    for score in scores:
        assert is_better(load(score.metric), score.after, score.before)
    assert score_answers([unasked]) == score_answers([]) == []


def test_scores_come_through_an_event_to_the_trackers() -> None:
    scores = score_answers([ANSWER])
    fields = [score.as_fields() for score in scores]
    assert scores_of(fields) == scores
    assert scores_of([{"metric": "of_a_later_version", "before": 0, "after": 1}]) == []
    event: Event = {"event": "answers", "rows": [], "scores": fields}
    plotted = numbers_of_event(event)
    assert {f"answers/{name}" for name in METRICS.names()} <= set(plotted)
    assert plotted["answers/exact_match"] == 1.0 and plotted["answers_before/exact_match"] == 0.0
    assert numbers_of_event({"event": "answers", "rows": []}) == {}
