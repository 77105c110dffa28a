"""Every optimizer and schedule: six steps are three steps, a checkpoint, and three more in new objects, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from tiny_training import equal, last_state, make_examples, make_training, weights_of
from weitiao.engine.checkpoint import newest_whole
from weitiao.engine.loop import Training
from weitiao.engine.optim.optimizers import OPTIMIZERS, OptimizerName
from weitiao.engine.optim.schedules import SchedulerName

EXAMPLES = make_examples(20, seed=5, draws=0.7)
HELD_OUT = make_examples(3, seed=6)
STEPS, HALF = 6, 3
RANDOM = {"method": {"name": "lora", "r": 128, "dropout": 0.1}, "neftune_alpha": 5.0}
"""Dropout and noise; r is so large that the 8-bit optimizers hold matrices in 8 bits."""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "warmup_stable_decay": {"num_decay_steps": 2},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
    "reduce_lr_on_plateau": {"patience": 0},
    "greedy": {"patience": 0, "smooth": True, "window_size": 3},
}


class Stop(Exception):
    """Ends a training between two steps, as a crash would."""


def stop_after(step: int) -> Any:  # noqa: ANN401
    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint" and event["step"] == step:
            raise Stop

    return listen


def make(folder: Path, *listeners: Any, **changes: Any) -> Training:  # noqa: ANN401
    # keep_best would compare the weights of the best step, which may lie before the stop.
    often = {"save_every": 1, "eval_every": 2, "keep_best": False}
    settings = {"lr": 1e-2, "steps": STEPS, "batch_size": 4, **often, **RANDOM, **changes}
    return make_training(folder, EXAMPLES, held_out=HELD_OUT, listeners=listeners, **settings)


def broken_off_and_resumed(folder: Path, **changes: Any) -> Training:  # noqa: ANN401
    with pytest.raises(Stop):
        make(folder, stop_after(HALF), **changes).run()
    path, passed_over = newest_whole(folder / "checkpoints")
    assert path is not None
    assert path.name == f"step-{HALF:08d}"
    assert not passed_over
    training = make(folder, **changes)
    training.resume(path)
    return training


def assert_exact(folder: Path, **changes: Any) -> None:  # noqa: ANN401
    straight = make(folder / "straight", **changes)
    straight.run()
    resumed = broken_off_and_resumed(folder / "resumed", **changes)
    resumed.run()
    assert equal(weights_of(resumed), weights_of(straight))
    assert last_state(folder / "resumed") == last_state(folder / "straight")


def test_the_table_has_every_name() -> None:
    assert tuple(OPTIMIZERS) == get_args(OptimizerName)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_every_optimizer(optimizer: str, tmp_path: Path) -> None:
    assert_exact(tmp_path, optimizer=optimizer, weight_decay=0.1)


@pytest.mark.parametrize("scheduler", get_args(SchedulerName))
def test_every_schedule(scheduler: str, tmp_path: Path) -> None:
    assert_exact(tmp_path, scheduler=scheduler, scheduler_args=ARGUMENTS.get(scheduler, {}), warmup_steps=2)


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": True},
        {"keep_best": True},
        {"loraplus_lr_ratio": 16.0, "weight_decay": 0.1},
        {"early_stopping_patience": 1, "early_stopping_min_delta": 10.0},
        {"eval_every": None, "steps": None, "epochs": 1.5},
        {"method": "full"},
        {"method": {"name": "freeze", "last_n": 1}},
        {"method": {"name": "lora", "init_lora_weights": "pissa", "dropout": 0.1}},
        {"method": {"name": "lora", "use_dora": True}},
        {"pack_tokens": 16},
    ],
    ids=lambda changes: "+".join(f"{key}={value}" for key, value in changes.items()),
)
def test_with_other_settings(changes: dict[str, Any], tmp_path: Path) -> None:
    if changes.get("early_stopping_patience"):
        straight = make(tmp_path / "s", **changes)
        assert straight.run().step == 4, "the second look stops it"
    assert_exact(tmp_path, **changes)


def without_optimizer(training: Training) -> None:
    training.stepper.optimizer.state.clear()


def without_schedule(training: Training) -> None:
    training.schedule.load_state_dict(make(training.checkpoints.parent / "x").schedule.state_dict())


def without_position(training: Training) -> None:
    training.plan.seed += 1
    training.plan._cached = (-1, [])


def without_step_seed(training: Training) -> None:
    training.stepper.seed += 1


@pytest.mark.parametrize(
    "leave_out", [without_optimizer, without_schedule, without_position, without_step_seed]
)
def test_leaving_anything_out_shows(leave_out: Any, tmp_path: Path) -> None:  # noqa: ANN401
    straight = make(tmp_path / "straight", scheduler="cosine")
    straight.run()
    resumed = broken_off_and_resumed(tmp_path / "resumed", scheduler="cosine")
    leave_out(resumed)
    resumed.run()
    assert not equal(weights_of(resumed), weights_of(straight))
