"""The Chinese report is the English one, with no sentence left in English."""

from __future__ import annotations

from dataclasses import replace

import pytest

from left_in_english import english_in
from report_facts import CHOSEN, FACTS
from verdicts import every_verdict
from weitiao.core.locale import LANGUAGES
from weitiao.evaluation.answers import Answer
from weitiao.evaluation.report import report
from weitiao.evaluation.run_facts import ReportFacts
from weitiao.evaluation.verdict import KINDS

WHOLE = replace(
    FACTS,
    run="runs/mine",
    data_lines=(
        "replay     24 general rows beside 40 an epoch (rows of 'my rows.json'; "
        "30 were asked for but there are no more; data.replay=off leaves them out): 15 steps more, 40 in all; "
        "questions: asked 31, used 24 (4 cut, 1 empty or unreadable, 1 repetitive, 2 in another language, "
        "1 too long, 3 unsure; some are seen more than once an epoch to make 30)",
    ),
    whole_seconds=125,
    chosen_by_loss=True,
    chosen=CHOSEN,
    losses=[(1, 3.0), (2, 2.0)],
    answers=[
        Answer(
            "“你是谁？”",
            "“我是小微。”",
            "“I am a model”",
            "“小微”",
            True,
            True,
            True,
            3,
            ("hello there you",),
        )
    ],
    most_new_tokens=48,
    failures=(
        "the held-out loss after training: RuntimeError: not enough memory",
        "the held-out loss before training: MemoryError: not enough memory",
        "answering the questions: RuntimeError: not enough memory",
        "answering the general questions: RuntimeError: not enough memory",
    ),
)
"""Facts of which every part of the report has something to say."""
VARIANTS = [
    WHOLE,
    replace(WHOLE, whole_seconds=0),
    replace(WHOLE, steps=20),
    replace(WHOLE, steps=20, whole_seconds=0, result_step=10),
    replace(
        WHOLE, steps=1, chosen=replace(CHOSEN, steps=1, examples=1, epochs=1.0, batch_size=1, held_out=1)
    ),
    replace(WHOLE, chosen=replace(CHOSEN, targets=None, warmup_steps=0, held_out=0)),
    replace(WHOLE, chosen=replace(CHOSEN, targets=("head", 1), warmup_steps=1)),
    replace(WHOLE, chosen=None, before=None, after=None, answers=(), losses=(), failures=()),
]


@pytest.mark.parametrize("facts", VARIANTS, ids=range(len(VARIANTS)))
def test_no_sentence_of_the_chinese_report_is_english(facts: ReportFacts) -> None:
    assert english_in(report(facts, "zh")) == []


def test_no_verdict_in_the_chinese_report_is_english() -> None:
    verdicts = every_verdict()
    assert {verdict.kind for verdict in verdicts} == set(KINDS)
    for verdict in {str(verdict): verdict for verdict in verdicts}.values():
        assert english_in(report(replace(WHOLE, verdict=verdict), "zh")) == [], verdict


@pytest.mark.parametrize("facts", VARIANTS, ids=range(len(VARIANTS)))
def test_both_languages_have_the_same_headings_tables_and_lists(facts: ReportFacts) -> None:
    facts = replace(facts, verdict=every_verdict()[0])
    english, chinese = ([line[:2] for line in report(facts, one).splitlines()] for one in LANGUAGES)
    assert [mark for mark in english if mark in ("##", "- ", "| ")] == [
        mark for mark in chinese if mark in ("##", "- ", "| ")
    ]


def test_english_that_is_left_is_found() -> None:
    assert english_in("留出损失 the loss fell，`a b c` 和 x=3") == ["the loss fell"]
    assert english_in("设 `data.held_out` 为 10，LoRA on q_proj") == []
