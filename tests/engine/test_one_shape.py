"""Packs that are filled up are all as long, whatever rows are in them and however often memory lacked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_training import largest_difference, make_examples, make_training, weights_of
from weitiao.core.errors import ResourceError
from weitiao.engine.attention.backends import attention_of_packs
from weitiao.engine.loop import Training
from weitiao.models.anatomy import base_of
from weitiao.objectives.sft import SupervisedFineTuning

ROWS = [*make_examples(7, longest=20), *make_examples(1, seed=2, shortest=48, longest=48)]
LONGEST = 48


def make(folder: Path, pack_tokens: int) -> Training:
    """Return a training whose packs are filled up, as under train.compile, by blocks that are not compiled."""
    training = make_training(folder, ROWS, batch_size=8, lr=1e-2, eps=1e-3, pack_tokens=pack_tokens)
    training.stepper.forward = training.stepper.forward.with_options(compiles=True)
    training.stepper = replace(training.stepper, longest_row=LONGEST)
    return training


def apply(training: Training) -> list[int]:
    """Make one step and return the rows of its packs."""
    stepper, batch = training.stepper, training.plan.batch(0)
    with attention_of_packs(base_of(training.attached.model)):
        stepper.apply(batch, 0)
    return [len(pack.ids_T) for pack in stepper.forward.cut(batch, stepper.pack_tokens)]


def test_a_row_longer_than_pack_tokens_makes_no_second_shape(tmp_path: Path) -> None:
    training = make(tmp_path, pack_tokens=30)
    assert training.stepper.pack_tokens == LONGEST
    lengths = apply(training)
    assert len(lengths) > 1
    assert set(lengths) == {LONGEST}
    training.stepper.pack_tokens = 30  # as a checkpoint of a run that did not compile may have it
    assert training.stepper.budget(ROWS) == LONGEST


def test_packs_that_are_not_filled_up_stay_as_small_as_they_were(tmp_path: Path) -> None:
    training = make(tmp_path, pack_tokens=30)
    training.stepper.forward = training.stepper.forward.with_options(compiles=False)
    small = replace(training.stepper, pack_tokens=30)
    assert small.pack_tokens == small.budget(ROWS) == 30


class Fails(SupervisedFineTuning):
    """An objective that runs out of memory so many times."""

    times: int

    def loss(self, outputs: Any, reference: Any = None) -> Any:  # noqa: ANN401
        if len(FAILED) < self.times:
            FAILED.append(1)
            raise torch.OutOfMemoryError("made up by a test")
        return super().loss(outputs, reference)


FAILED: list[int] = []


@pytest.mark.parametrize(("times", "budget"), [(1, 60), (2, LONGEST)])
def test_want_of_memory_shrinks_them_down_to_the_longest_row(times: int, budget: int, tmp_path: Path) -> None:
    FAILED.clear()
    training = make(tmp_path, pack_tokens=120)
    training.stepper.objective = Fails(times=times)
    assert set(apply(training)) == {budget}
    assert training.stepper.pack_tokens == budget
    plain = make(tmp_path, pack_tokens=120)
    apply(plain)
    assert largest_difference(weights_of(training), weights_of(plain)) < 1e-6


def test_below_the_longest_row_there_is_nothing_to_try(tmp_path: Path) -> None:
    FAILED.clear()
    training = make(tmp_path, pack_tokens=120)
    training.stepper.objective = Fails(times=3)
    with pytest.raises(ResourceError, match="one row alone"):
        apply(training)
    assert len(FAILED) == 3
