"""Methods on packs and trees: no sample reaches another; cutting, order and lack of memory change no step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_training import (
    behind,
    equal,
    largest_difference,
    make_examples,
    make_training,
    sequence_of,
    weights_of,
)
from weitiao.data.batching.packing import make_pack
from weitiao.data.example import Example
from weitiao.engine.loop import Training
from weitiao.objectives._base import LossSum
from weitiao.objectives._outputs import Outputs
from weitiao.objectives.sft import SupervisedFineTuning

METHODS: dict[str, Any] = {
    "lora": {"name": "lora", "r": 4},
    "full": "full",
    "prefix_tuning": {"name": "prefix_tuning", "num_virtual_tokens": 4},
    "prompt_tuning": {"name": "prompt_tuning", "num_virtual_tokens": 4},
}
every_method = pytest.mark.parametrize("method", METHODS)
HEADERS = make_examples(3, seed=5, shortest=12, longest=16)


FLAT = make_examples(24, seed=3, shortest=8, longest=24)
TREES = [behind(HEADERS[n % 3], row) for n, row in enumerate(FLAT)]


def make(folder: Path, method: object, rows: list[Example], **changes: Any) -> Training:  # noqa: ANN401
    # A large eps keeps Adam from blowing rounding up where a gradient is nearly zero: 1e-8 / (1e-8 + eps).
    settings = {"lr": 1e-2, "eps": 1e-3, "batch_size": 8, "pack_tokens": 10_000, **changes}
    return make_training(folder, rows, method=method, **settings)


def move(training: Training) -> None:
    """Move the weights, so that LoRA's B is not zero and what A and dropout do shows."""
    with torch.no_grad():
        for parameter in training.stepper.parameters.values():
            parameter += 0.05


def trained(training: Training, reverse: bool = False) -> dict[str, torch.Tensor]:
    """Return the weights after two steps."""
    training.attached.model.train()
    with training.stepper.forward.attention():
        for step in range(2):
            batch = training.plan.batch(step)
            training.stepper.apply(batch[::-1] if reverse else batch, step)
    return weights_of(training)


@pytest.mark.parametrize(
    ("method", "rows"),
    [*((method, TREES) for method in METHODS), ("lora", FLAT), ("prompt_tuning", FLAT)],
    ids=lambda value: ("trees" if value is TREES else "flat") if isinstance(value, list) else value,
)
def test_budget_and_order_change_no_weight(method: str, rows: list[Example], tmp_path: Path) -> None:
    whole = make(tmp_path, METHODS[method], rows)
    assert whole.stepper.forward.options.shares
    before, after = weights_of(whole), trained(whole)
    assert largest_difference(after, before) > 1e-3
    for budget, reverse in ((60, True), (1, False)):
        training = make(tmp_path, METHODS[method], rows, pack_tokens=budget)
        assert largest_difference(trained(training, reverse), after) < 1e-6, (budget, reverse)


@every_method
@pytest.mark.parametrize("shares", [False, True], ids=["flat", "trees"])
def test_another_sample_changes_no_bit(method: str, shares: bool, tmp_path: Path) -> None:
    training = make(tmp_path, METHODS[method], FLAT)
    move(training)
    forward, header = training.stepper.forward, HEADERS[0]
    first, second = (make_examples(1, seed=s, shortest=10, longest=10)[0] for s in (1, 2))
    one = sequence_of(second)
    other = Example.of(tuple((i + 7) % 50 + 3 for i in one.ids), one.weights, second.place)
    if shares:
        first, second, other = (behind(header, row) for row in (first, second, other))
    packs = [make_pack([first, changed], shares) for changed in (second, other)]
    assert packs[0].shares is shares
    with torch.no_grad(), forward.attention():
        outputs = [forward.outputs(pack) for pack in packs]
    own = make_pack([first]).targets_K
    assert outputs[0].targets_K[: len(own)].tolist() == own.tolist()
    one, two = (output.logits_PV() for output in outputs)
    rows = outputs[0].rows_K[: len(own)]
    assert torch.equal(one[rows], two[rows])
    assert not torch.equal(one, two)


class SecondFails(SupervisedFineTuning):
    """Runs out of memory once, in the second pack, when the first one's gradients and draws have been made."""

    def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
        CALLS.append(len(outputs.targets_K))
        if len(CALLS) == 2:
            raise torch.OutOfMemoryError("made up by a test")
        return super().loss(outputs, reference)


CALLS: list[int] = []


@pytest.mark.parametrize("rows", [FLAT, TREES], ids=["flat", "trees"])
def test_a_step_redone_for_lack_of_memory_draws_what_a_smaller_budget_draws(
    rows: list[Example], tmp_path: Path
) -> None:
    CALLS.clear()
    dropout = {"name": "lora", "r": 4, "dropout": 0.3}
    training = make(tmp_path, dropout, rows, pack_tokens=80)
    training.stepper.objective = SecondFails()
    redone = trained(training)
    assert len(CALLS) > 2
    assert training.stepper.pack_tokens == 40
    assert equal(redone, trained(make(tmp_path, dropout, rows, pack_tokens=40)))
    assert not equal(redone, trained(make(tmp_path, dropout, rows, pack_tokens=80)))


def test_what_a_pack_draws_depends_on_no_other_pack(tmp_path: Path) -> None:
    """So it is the same on whichever rank."""
    training = make(tmp_path, {"name": "lora", "r": 4, "dropout": 0.5}, FLAT, pack_tokens=40)
    stepper = training.stepper
    move(training)
    training.attached.model.train()
    batch = training.plan.batch(0)
    count = len(stepper.forward.cut(batch, 40))
    assert count > 2

    def losses_of(order: list[int], same_pack: bool = False) -> dict[int, float]:
        class Only(type(stepper.ranks)):  # type: ignore[misc]
            def share(self, packs: Any) -> Any:  # noqa: ANN401
                return [(index, packs[0 if same_pack else index]) for index in order]

        found: list[float] = []

        class Told(SupervisedFineTuning):
            def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
                loss_sum = super().loss(outputs, reference)
                found.append(float(loss_sum.sum.detach()))
                return loss_sum

        stepper.ranks, stepper.objective = Only(), Told()
        with stepper.forward.attention():
            stepper.gradients(batch, 0)
        return dict(zip(order, found, strict=True))

    together = losses_of(list(range(count)))
    assert losses_of(list(range(count))[::-1]) == together
    for index in range(count):
        assert losses_of([index]) == {index: together[index]}
    assert len(set(losses_of([0, 1], same_pack=True).values())) == 2, "two equal packs draw the same"
