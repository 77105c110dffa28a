"""A NaN or inf, wherever it comes from, is neither applied nor saved; the rows are named; the last state is kept."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tiny_training import (
    Events,
    ends_in,
    equal,
    last_state,
    make_examples,
    make_training,
    sequence_of,
    weights_of,
)
from weitiao.core.errors import NotFiniteError
from weitiao.engine.checkpoint import list_checkpoints, newest_whole
from weitiao.engine.loop import Training
from weitiao.objectives._base import LossSum
from weitiao.objectives._outputs import Outputs
from weitiao.objectives.sft import SupervisedFineTuning

EXAMPLES = make_examples(12, seed=8)
BAD_STEP = 2
"""The step (counted from 0) the made-up fault strikes in."""


class _SpoilGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        return gradient * math.nan


class Spoilt(SupervisedFineTuning):
    """Spoils the loss, or its gradient only, of packs in which the target `token` is trained."""

    token: int
    value: float = math.nan
    gradient_only: bool = False

    def loss(self, outputs: Outputs, reference: torch.Tensor | None = None) -> LossSum:
        sound = super().loss(outputs, reference)
        if self.token not in outputs.targets_K.tolist():
            return sound
        spoilt = _SpoilGradient.apply(sound.sum) if self.gradient_only else sound.sum + self.value  # type: ignore[no-untyped-call]
        return LossSum(spoilt)


def make(folder: Path, *listeners: Any) -> Training:  # noqa: ANN401
    settings = {"steps": 5, "batch_size": 4, "lr": 1e-2}
    return make_training(folder, marked(), listeners=listeners, **settings)


MARK = 1
"""A token that no other row holds (random ids begin at 3)."""


@cache
def marked() -> list[Any]:
    """Return the examples, one of those of step BAD_STEP ending in MARK; its row is `culprit()`."""
    plan = make_training(Path("unused"), EXAMPLES, steps=5, batch_size=4).plan
    bad = plan.batch(BAD_STEP)[1]
    return [ends_in(MARK, example) if example is bad else example for example in EXAMPLES]


def culprit() -> str:
    return next(e.place for e in marked() if MARK in sequence_of(e).ids)


FAULTS = {
    "nan": {"value": math.nan},
    "inf": {"value": math.inf},
    "a gradient only": {"gradient_only": True},
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The last state of a run without a fault."""
    folder = tmp_path_factory.mktemp("straight")
    make(folder).run()
    return last_state(folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_is_not_finite(
    fault: str, straight: tuple[dict[str, bytes], dict[str, Any]], tmp_path: Path
) -> None:
    heard = Events()
    before: dict[str, torch.Tensor] = {}

    def remember(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == BAD_STEP:
            before.update(weights_of(training))

    training = make(tmp_path, heard, remember)
    training.stepper.objective = Spoilt(token=MARK, **FAULTS[fault])
    with pytest.raises(NotFiniteError) as caught:
        training.run()
    assert caught.value.exit_code == 10
    assert f"step {BAD_STEP + 1}" in caught.value.problems[0].what
    assert f"the rows {culprit()}" in caught.value.problems[0].got
    assert "," not in caught.value.problems[0].got.split("the rows")[1], "no other row is named"
    assert equal(weights_of(training), before), "the step was applied"
    assert [event["step"] for event in heard.of("step")] == [1, 2]

    newest, passed_over = newest_whole(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{BAD_STEP:08d}"
    assert not passed_over
    assert all_finite(tmp_path)

    # The cause is gone: the run goes on and ends as if it had never been there.
    resumed = make(tmp_path)
    resumed.resume(newest)
    resumed.run()
    assert last_state(tmp_path) == straight


def all_finite(folder: Path) -> bool:
    """Tell whether no tensor in any file of the folder holds a NaN or inf."""
    files = list(folder.rglob("*.safetensors"))
    assert files
    return all(bool(torch.isfinite(tensor).all()) for path in files for tensor in load_file(path).values())


def test_several_rows_are_all_named(tmp_path: Path) -> None:
    training = make(tmp_path)

    class Never(SupervisedFineTuning):
        def loss(self, outputs: Outputs, reference: torch.Tensor | None = None) -> LossSum:
            sound = super().loss(outputs, reference)
            return LossSum(sound.sum * math.nan)

    training.stepper.objective = Never()
    with pytest.raises(NotFiniteError) as caught:
        training.run()
    assert all(example.place in caught.value.problems[0].got for example in training.plan.batch(0))
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step-00000000"]


def test_where_only_the_sum_overflows_no_row_is_blamed(tmp_path: Path) -> None:
    training = make(tmp_path)

    class Together(SupervisedFineTuning):
        def loss(self, outputs: Outputs, reference: torch.Tensor | None = None) -> LossSum:
            sound = super().loss(outputs, reference)
            alone = len(outputs.targets_K) <= 11
            return sound if alone else LossSum(sound.sum * math.inf)

    training.stepper.objective = Together()
    with pytest.raises(NotFiniteError, match="no single row of the step causes it"):
        training.run()


def test_a_weight_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    training = make(tmp_path)
    training.settings = training.settings.model_copy(update={"save_every": 1})

    def spoil(optimizer: torch.optim.Optimizer, *_: object) -> None:
        if training.progress.step == BAD_STEP:
            with torch.no_grad():
                next(iter(training.stepper.parameters.values()))[0, 0] = math.inf

    training.stepper.optimizer.register_step_post_hook(spoil)
    with pytest.raises(NotFiniteError) as caught:
        training.run()
    assert caught.value.exit_code == 10
    assert "lora_A" in caught.value.problems[0].got
    newest, _ = newest_whole(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{BAD_STEP:08d}"
    assert all_finite(tmp_path)


def test_an_optimizer_state_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    training = make(tmp_path)
    training.run()
    next(iter(training.stepper.optimizer.state.values()))["exp_avg"].fill_(math.nan)
    training.progress.step += 1
    with pytest.raises(NotFiniteError, match="exp_avg"):
        training.save()
    assert all_finite(tmp_path)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_look_that_is_not_finite_is_never_the_best(bad: float, at: int, tmp_path: Path) -> None:
    """The state of the lowest finite look is the result, wherever the other look came."""
    looks, seen = [3.0, 2.0], []
    looks.insert(at, bad)
    training = make_training(tmp_path, EXAMPLES, steps=3, batch_size=4, lr=1e-2, eval_every=1)

    def look(_: object) -> dict[str, float]:
        seen.append(weights_of(training))
        return {"loss": looks[len(seen) - 1]}

    training.held_out_loss = look
    training.run()
    assert training.result_loss == 2.0
    assert equal(weights_of(training), seen[looks.index(2.0)])
