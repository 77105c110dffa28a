"""Every optimizer and schedule: the last steps may be made in new objects, from a checkpoint, bit by bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import tiny_architectures
from tiny_training import equal, last_state, make_examples, make_training, weights_of
from weitiao.engine.checkpoint import newest_whole
from weitiao.engine.loop import Training
from weitiao.engine.optim.optimizers import OPTIMIZERS, OptimizerName
from weitiao.engine.optim.schedules import FOLLOW_HELD_OUT, SchedulerName, build_schedule
from weitiao.engine.settings import TrainSettings

EXAMPLES = make_examples(20, seed=5, draws=0.7)
HELD_OUT = make_examples(3, seed=6)
STEPS, HALF = 6, 3
RANDOM = {"method": {"name": "lora", "r": 4, "dropout": 0.1}, "neftune_alpha": 5.0}
"""Dropout and noise."""
LARGE = {"method": {"name": "lora", "r": 128, "dropout": 0.1}}
"""So large that the 8-bit optimizers hold matrices in 8 bits."""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "warmup_stable_decay": {"num_decay_steps": 2},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
    "reduce_lr_on_plateau": {"patience": 0},
    "greedy": {"patience": 0, "smooth": True, "window_size": 3},
}


def make(folder: Path, *listeners: Any, **changes: Any) -> Training:  # noqa: ANN401
    # keep_best would compare the weights of the best step, which may lie before the stop.
    often = {"save_every": HALF, "eval_every": 2, "keep_best": False}
    settings = {"lr": 1e-2, "steps": STEPS, "batch_size": 4, **often, **RANDOM, **changes}
    model = tiny_architectures.make_model("llama", num_hidden_layers=2)
    return make_training(folder, EXAMPLES, held_out=HELD_OUT, model=model, listeners=listeners, **settings)


def straight_and_half(folder: Path, **changes: Any) -> tuple[Training, Path]:  # noqa: ANN401
    """Make a training to its end; return it, and a copy of its checkpoints as they were at its half."""

    def copy_half(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint" and event["step"] == HALF:
            shutil.copytree(folder / "straight" / "checkpoints", folder / "half")

    straight = make(folder / "straight", copy_half, **changes)
    straight.run()
    return straight, folder / "half"


def resumed(half: Path, folder: Path, **changes: Any) -> Training:  # noqa: ANN401
    """Return a new training in `folder` that goes on from the newest checkpoint in `half`."""
    shutil.copytree(half, folder / "checkpoints")
    path, passed_over = newest_whole(folder / "checkpoints")
    assert path is not None
    assert path.name == f"step-{HALF:08d}"
    assert not passed_over
    training = make(folder, **changes)
    training.resume(path)
    return training


def assert_exact(folder: Path, **changes: Any) -> Training:  # noqa: ANN401
    straight, half = straight_and_half(folder, **changes)
    training = resumed(half, folder / "resumed", **changes)
    training.run()
    assert equal(weights_of(training), weights_of(straight))
    assert last_state(folder / "resumed") == last_state(folder / "straight")
    return straight


def test_the_table_has_every_name() -> None:
    assert tuple(OPTIMIZERS) == get_args(OptimizerName)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_every_optimizer(optimizer: str, tmp_path: Path) -> None:
    assert_exact(tmp_path, optimizer=optimizer, weight_decay=0.1, steps=HALF + 1, **LARGE)


@pytest.mark.parametrize("scheduler", ["linear", "warmup_stable_decay", *sorted(FOLLOW_HELD_OUT)])
def test_with_a_schedule_of_each_kind(scheduler: str, tmp_path: Path) -> None:
    assert_exact(tmp_path, scheduler=scheduler, scheduler_args=ARGUMENTS.get(scheduler, {}), warmup_steps=2)


@pytest.mark.parametrize("scheduler", sorted(set(get_args(SchedulerName)) - FOLLOW_HELD_OUT))
def test_every_schedule_goes_on_with_the_same_rates(scheduler: SchedulerName) -> None:
    arguments = ARGUMENTS.get(scheduler, {})
    settings = TrainSettings(scheduler=scheduler, scheduler_args=arguments, warmup_steps=2, lr=1e-2)

    def made() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
        return optimizer, build_schedule(optimizer, settings, STEPS)

    def rates(optimizer: torch.optim.Optimizer, schedule: Any, count: int) -> list[float]:  # noqa: ANN401
        found = []
        for _ in range(count):
            optimizer.step()
            schedule.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    straight, resumed = made(), made()
    rates(*straight, HALF)
    for one, other in zip(resumed, straight, strict=True):
        one.load_state_dict(json.loads(json.dumps(other.state_dict())))
    assert rates(*resumed, STEPS - HALF) == rates(*straight, STEPS - HALF)


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
    straight = assert_exact(tmp_path, **changes)
    if changes.get("early_stopping_patience"):
        assert straight.progress.step == 4, "the second look stops it"


def without_optimizer(training: Training) -> None:
    training.stepper.optimizer.state.clear()


def without_schedule(training: Training) -> None:
    training.schedule.load_state_dict(make(training.checkpoints.parent / "x").schedule.state_dict())


def without_position(training: Training) -> None:
    training.plan = replace(training.plan, seed=training.plan.seed + 1)


def without_step_seed(training: Training) -> None:
    training.stepper.seed += 1


@pytest.fixture(scope="module")
def cosine(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], Path]:
    """The weights at the end of a training, and its checkpoints at its half."""
    straight, half = straight_and_half(tmp_path_factory.mktemp("cosine"), scheduler="cosine")
    return weights_of(straight), half


@pytest.mark.parametrize(
    "leave_out", [without_optimizer, without_schedule, without_position, without_step_seed]
)
def test_leaving_anything_out_shows(leave_out: Any, cosine: Any, tmp_path: Path) -> None:  # noqa: ANN401
    weights, half = cosine
    training = resumed(half, tmp_path, scheduler="cosine")
    leave_out(training)
    training.run()
    assert not equal(weights_of(training), weights)
