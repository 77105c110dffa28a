"""The learning rate of each step: what the log says is what the step was made with, and a warmup that takes it all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tiny_training import Events, make_examples, make_training, weights_of
from weitiao.engine.optim.schedules import ScheduleSettings, shares_of_lr, warmup_notes


def test_the_log_has_each_steps_own_learning_rate(tmp_path: Path) -> None:
    events = Events()
    train = {"lr": 1e-2, "steps": 5, "batch_size": 2, "warmup_steps": 2, "scheduler": "linear"}
    make_training(tmp_path, make_examples(4), listeners=(events,), **train).run()
    wanted = [1e-2 * share for share in (0, 1 / 2, 1, 2 / 3, 1 / 3)]
    assert [event["lr"] for event in events.of("step")] == pytest.approx(wanted)


def test_a_step_logged_with_no_learning_rate_moves_nothing(tmp_path: Path) -> None:
    events = Events()
    train = {"lr": 1e-2, "steps": 1, "batch_size": 2, "warmup_steps": 1}
    training = make_training(tmp_path, make_examples(4), listeners=(events,), **train)
    before = weights_of(training)
    training.run()
    assert events.of("step")[0]["lr"] == 0
    assert all(torch.equal(weights, before[name]) for name, weights in weights_of(training).items())
    notes = [event["text"] for event in events.of("note")]
    assert any("nothing will be trained" in note for note in notes)


@pytest.mark.parametrize(
    ("settings", "steps", "words"),
    [
        ({"warmup_steps": 1}, 1, "nothing will be trained"),
        ({"warmup_steps": 10}, 10, "reaches only 90% of train.lr"),
        ({"warmup_steps": 100}, 10, "warmup takes 10 of the run's 10 steps(.*)only 9% of train.lr"),
        ({"warmup_steps": 9}, 10, "only the last one"),
        ({"warmup_ratio": 0.95}, 10, "reaches only 90%"),
        ({"warmup_steps": 5, "scheduler": "constant"}, 10, "constant_with_warmup has one"),
        ({"warmup_ratio": 0.1, "scheduler": "reduce_lr_on_plateau"}, 10, "has no warmup"),
    ],
)
def test_a_warmup_that_leaves_nothing_is_said(settings: dict[str, object], steps: int, words: str) -> None:
    (note,) = warmup_notes(ScheduleSettings.model_validate(settings), steps)
    assert re.search(words, note)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({}, 1), ({"warmup_steps": 8}, 10), ({"warmup_ratio": 0.1}, 10), ({"scheduler": "constant"}, 3)],
)
def test_an_ordinary_warmup_is_not(settings: dict[str, object], steps: int) -> None:
    assert warmup_notes(ScheduleSettings.model_validate(settings), steps) == []


@pytest.mark.parametrize(
    "scheduler", ["linear", "cosine", "constant_with_warmup", "cosine_with_restarts", "polynomial"]
)
def test_the_share_rises_from_nothing_to_all_of_it(scheduler: str) -> None:
    shares = shares_of_lr(ScheduleSettings.model_validate({"scheduler": scheduler, "warmup_steps": 4}), 20)
    assert shares[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert max(shares) == shares[4]
