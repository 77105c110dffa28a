"""The verdict of a run: its word, its interval against simulated rows and tables, and what it says to type next."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from left_in_english import english_in
from verdicts import CHANGED, NOT_FITTED, SEEN, STILL_FALLING, UNCHANGED, every_verdict, held_out, moved
from weitiao.core.locale import in_language
from weitiao.evaluation.answers import Answer
from weitiao.evaluation.held_out import HeldOut
from weitiao.evaluation.panel import PanelChange, PanelScore
from weitiao.evaluation.verdict import (
    KINDS,
    Kind,
    TrainingSeen,
    judge,
    lines,
    paired_interval,
    t_quantile,
)


@pytest.mark.parametrize(
    ("by", "answers", "kind"),
    [
        (-1.0, CHANGED, "learnt"),
        (-1.0, UNCHANGED, "hardly changed"),
        (-1.0, [], "learnt"),
        (0.0, CHANGED, "hardly changed"),
        (0.5, CHANGED, "got worse"),
    ],
)
def test_the_word_follows_from_rows_and_answers(by: float, answers: list[Answer], kind: Kind) -> None:
    assert judge(*moved(by), answers, SEEN).kind == kind


def test_without_held_out_rows_only_equal_answers_say_something() -> None:
    assert judge(None, None, CHANGED, SEEN).kind == "not measured"
    assert judge(None, None, UNCHANGED, SEEN).kind == "hardly changed"
    assert judge(None, None, CHANGED, SEEN).advice[0].word == "data.held_out=10"


def test_few_rows_are_cautioned_about() -> None:
    assert "only 4 rows" in judge(*moved(-1.0, rows=4), CHANGED, SEEN).cautions[0]
    assert not judge(*moved(-1.0, rows=10), CHANGED, SEEN).cautions
    assert judge(*moved(-1.0, rows=2), CHANGED, SEEN).kind == "not measured"


def test_rows_that_an_old_run_did_not_keep_give_no_interval() -> None:
    assert paired_interval(HeldOut(4.0), held_out(1.0, 2.0, 3.0)) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [1, 2, 12])
@pytest.mark.parametrize("answers", [CHANGED, UNCHANGED, []])
def test_a_loss_that_is_not_finite_got_worse(loss: float, rows: int, answers: list[Answer]) -> None:
    """However many rows are held out, and whatever the answers are; one row is enough to spoil the loss."""
    before, after = moved(-1.0, rows)
    spoilt = HeldOut(loss, ((loss, 10.0), *after.rows[1:]))
    verdict = judge(before, spoilt, answers, SEEN)
    assert verdict.kind == "got worse" and verdict.change is None
    assert str(loss) in verdict.because and "not a finite number" in verdict.because
    assert [advice.word for advice in verdict.advice] == ["train.lr=0.0001"]
    shown = lines(verdict.as_fields())
    assert "interval" not in " ".join(shown) and "+nan" not in " ".join(shown)


def test_a_look_that_failed_is_not_said_to_lack_rows() -> None:
    look = moved(-1.0)[0]
    for before, after, when in ((look, None, "after"), (None, look, "before")):
        verdict = judge(before, after, CHANGED, SEEN)
        assert verdict.kind == "not measured"
        assert verdict.because == f"the held-out loss {when} training could not be measured"


@pytest.mark.parametrize(
    ("freedom", "expected"), [(2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (29, 2.0452), (199, 1.9720)]
)
def test_students_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("rows", [5, 20, 100])
def test_equal_models_are_told_apart_in_about_one_of_twenty(rows: int) -> None:
    """Rows of unequal lengths and losses; 1,000 comparisons in which nothing changed but by chance."""
    draw = random.Random(rows)
    apart = 0
    for _ in range(1000):
        weights = [draw.randint(3, 60) for _ in range(rows)]
        before = tuple((draw.uniform(1, 5) * weight, float(weight)) for weight in weights)
        after = tuple((loss + draw.gauss(0, 0.3) * weight, weight) for loss, weight in before)
        interval = paired_interval(HeldOut(0, before), HeldOut(0, after))
        assert interval is not None
        apart += not interval.low <= 0 <= interval.high
    assert 30 <= apart <= 70


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (SEEN, ["train.lr=0.00033"]),  # fitted its rows, and nothing carried over
        (NOT_FITTED, ["train.lr=0.003", "train.epochs=6"]),
        (STILL_FALLING, ["train.epochs=6", "train.lr=0.003"]),
    ],
)
def test_what_to_type_next_follows_from_how_the_training_went(seen: TrainingSeen, words: list[str]) -> None:
    assert [advice.word for advice in judge(*moved(0.0), CHANGED, seen).advice] == words


@pytest.mark.parametrize("seen", [SEEN, NOT_FITTED, STILL_FALLING], ids=["fitted", "not fitted", "falling"])
@pytest.mark.parametrize("times", [0.1, 1, 3, 5, 20, 1e4, 1e33])
def test_no_rate_advised_is_beyond_ten_times_the_methods_own(seen: TrainingSeen, times: float) -> None:
    seen = replace(seen, lr=times * seen.suggested_lr)
    for by, diverged in ((-1.0, False), (0.0, False), (0.5, False), (0.0, True)):
        before, after = moved(by)
        after = HeldOut(math.nan, after.rows) if diverged else after
        for advice in judge(before, after, CHANGED, seen).advice:
            name, _, value = advice.word.partition("=")
            if name == "train.lr":
                assert float(value) <= 10 * seen.suggested_lr
                assert times <= 3 or float(value) < seen.lr, "far above the method's rate, lower is advised"


@pytest.mark.parametrize(("lr", "side"), [(3.0, "far above it"), (1e-6, "far below it")])
def test_nothing_learnt_at_a_rate_far_from_the_methods_own_is_told_that(lr: float, side: str) -> None:
    advice = judge(*moved(0.0), CHANGED, replace(NOT_FITTED, lr=lr)).advice
    assert [one.word for one in advice] == ["train.lr=0.001", "train.epochs=6"]
    assert side in advice[0].why


def test_where_no_word_helps_none_is_given() -> None:
    for seen, expected in (
        (replace(SEEN, more_held_out=""), "more rows of data"),
        (replace(SEEN, more_held_out="", held_out_file=True), "held-out file"),
    ):
        verdict = judge(None, None, CHANGED, seen)
        assert [one.word for one in verdict.advice] == [""]
        assert expected in lines(verdict.as_fields())[-1]
        assert "try" not in lines(verdict.as_fields())[-1]


def test_a_persons_own_early_stopping_is_named() -> None:
    own = {"longer": "train.early_stopping_patience=4", "stopped_by": "train.early_stopping_patience"}
    for seen in (SEEN, NOT_FITTED, STILL_FALLING):
        advice = judge(*moved(0.0), CHANGED, replace(seen, **own)).advice
        named = [one for one in advice if one.word == own["longer"]]
        assert [one.why for one in named] == ["train.early_stopping_patience ended the run early"]


def test_general_questions_are_lost_where_all_general_rows_are_in() -> None:
    score = PanelScore(12, 9, 8, (PanelChange("?", "5", "Xiaowei"),), ())
    advice = judge(*moved(-1.0), CHANGED, replace(SEEN, more_replay=""), score).advice
    assert [one.word for one in advice] == ["train.lr=0.00033"]


def test_a_run_that_got_worse_is_told_to_go_slower() -> None:
    assert [advice.word for advice in judge(*moved(0.5), CHANGED, SEEN).advice] == ["train.lr=0.00033"]


def test_general_questions_that_are_lost_are_named_with_what_holds_them_back() -> None:
    score = PanelScore(12, 9, 8, (PanelChange("What is 2 + 3?", "5", "Xiaowei"),), ())
    verdict = judge(*moved(-1.0), CHANGED, SEEN, score)
    assert verdict.advice[-1].word == "data.replay=on"
    more = replace(SEEN, more_replay="data.replay=48")
    assert judge(*moved(-1.0), CHANGED, more, score).advice[-1].word == "data.replay=48"
    assert any("8 of 9" in line and "What is 2 + 3?" in line for line in lines(verdict.as_fields()))
    assert not judge(*moved(-1.0), CHANGED, SEEN, PanelScore(12, 9, 9, (), ())).advice


def test_every_sentence_is_there_in_both_languages() -> None:
    assert {verdict.kind for verdict in every_verdict()} == set(KINDS)
    for verdict in every_verdict():
        english = lines(verdict.as_fields())
        assert len(english) == len(set(english))
        assert all(line.isascii() for line in english)
        chinese = [in_language(line, "zh") for line in english]
        assert not any(line.isascii() for line in chinese)
        assert [left for line in chinese for left in english_in(line)] == []


def test_a_verdict_of_an_older_run_is_read() -> None:
    """Such a run's events have each sentence in English and in Chinese."""
    verdict = judge(*moved(-1.0, rows=4), CHANGED, STILL_FALLING)
    fields = verdict.as_fields()
    older = {
        **fields,
        "because": [fields["because"], "下降"],
        "cautions": [[one, "太少"] for one in fields["cautions"]],
        "advice": [{**one, "why": [one["why"], "还在降"]} for one in fields["advice"]],
    }
    assert len(lines(fields)) == 5 and lines(older) == lines(fields)


@pytest.mark.parametrize(
    ("before", "still", "kind"),
    [(12, 5, "learnt, but forgot"), (12, 6, "learnt"), (4, 1, "learnt, but forgot"), (3, 0, "learnt")],
)
def test_a_model_that_lost_most_of_what_it_knew_is_not_plainly_learnt(
    before: int, still: int, kind: str
) -> None:
    lost = tuple(PanelChange(f"question {n}", "right", "wrong") for n in range(before - still))
    verdict = judge(*moved(-1.0), CHANGED, SEEN, PanelScore(16, before, still, lost, ()))
    assert verdict.kind == kind
    assert verdict.advice
