"""Verdicts of every kind: held-out losses that moved, answers, and what training showed."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from weitiao.evaluation.answers import Answer
from weitiao.evaluation.held_out import HeldOut
from weitiao.evaluation.panel import PanelChange, PanelScore
from weitiao.evaluation.verdict import TrainingSeen, Verdict, judge

SEEN = TrainingSeen(
    lr=1e-3,
    suggested_lr=1e-3,
    first_loss=4.0,
    last_loss=2.0,
    best_is_last=False,
    longer="train.epochs=6",
    more_held_out="data.held_out=10",
)
NOT_FITTED = replace(SEEN, last_loss=3.9)
STILL_FALLING = replace(SEEN, best_is_last=True)
CHANGED = [Answer("q", "", "old", "new"), Answer("r", "", "same", "same")]
UNCHANGED = [Answer("q", "", "same", "same")]


def held_out(*losses: float, weight: float = 10.0) -> HeldOut:
    """Return a look at rows of so many nats a token, each of `weight` tokens."""
    rows = tuple((loss * weight, weight) for loss in losses)
    return HeldOut(sum(losses) / len(losses), rows)


def moved(by: float, rows: int = 12) -> tuple[HeldOut, HeldOut]:
    """Return looks before and after between which each row moved by about so much."""
    draw = random.Random(1)
    before = [draw.uniform(1, 5) for _ in range(rows)]
    return held_out(*before), held_out(*(loss + by + draw.gauss(0, 0.1) for loss in before))


def every_verdict() -> list[Verdict]:
    looks = [moved(by, rows) for by in (-1.0, 0.0, 0.5) for rows in (1, 5, 12)]
    score = PanelScore(12, 9, 8, (PanelChange("?", "5", "Xiaowei"),), ())
    forgot = PanelScore(12, 9, 2, (PanelChange("?", "5", "Xiaowei"),), ())
    panels = (None, score, forgot)
    own = replace(NOT_FITTED, stopped_by="train.early_stopping_patience", lr=1.0)
    none = replace(SEEN, more_held_out="", more_replay="")
    seens = (SEEN, NOT_FITTED, STILL_FALLING, own, none, replace(none, held_out_file=True))
    looks += [(look[0], HeldOut(math.nan, look[1].rows)) for look in looks[:1]]
    every = [
        (*look, answers, seen) for look in looks for answers in (CHANGED, UNCHANGED, []) for seen in seens
    ]
    return [judge(*each, panel) for each in every for panel in panels]
