"""The tensors of packs, one ahead: the same ones, made once, and none kept for longer than needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tiny_training import make_examples, make_training
from weitiao.data.batching.packing import make_pack
from weitiao.engine.runtime.transfer import PackTensors, Prefetch

CPU = torch.device("cpu")


def test_the_next_pack_is_ready_when_one_is_yielded() -> None:
    packs = [make_pack(make_examples(2, seed=seed)) for seed in range(3)]
    prefetch = Prefetch()
    held = []
    for number, pack in enumerate(prefetch.ahead(packs, CPU)):
        assert pack is packs[number]
        held.append(len(prefetch))
        assert prefetch.tensors(pack, CPU) is prefetch.tensors(pack, CPU)
        assert prefetch.tensors(pack, CPU).ids_1T[0].tolist() == pack.ids_T.tolist()
    assert held == [2, 2, 1]
    assert len(prefetch) == 0


def test_an_error_between_two_packs_leaves_nothing_that_a_later_step_could_take() -> None:
    packs = [make_pack(make_examples(2, seed=seed)) for seed in range(3)]
    prefetch = Prefetch()
    stopped = prefetch.ahead(packs, CPU)
    next(stopped)
    assert list(prefetch.ahead(packs[1:], CPU)) == packs[1:]
    assert len(prefetch) == 0


def test_on_a_cpu_tensors_are_the_packs_own_memory() -> None:
    """Making them ahead costs nothing: no number is copied but the positions of the head, counted from the end."""
    pack = make_pack(make_examples(3))
    tensors = PackTensors.of(pack, CPU)
    assert np.shares_memory(tensors.ids_1T.numpy(), pack.ids_T)
    assert np.shares_memory(tensors.weights_K.numpy(), pack.weights_K)
    assert (tensors.kept_P + len(pack.ids_T)).tolist() == pack.kept_P.tolist()


def test_a_step_is_that_of_packs_made_when_they_are_needed(tmp_path: Path) -> None:
    rows = make_examples(8)
    training = make_training(tmp_path, rows, pack_tokens=30)
    stepper = training.stepper
    packs = stepper.forward.cut(rows, 30)
    assert len(packs) > 2
    with torch.no_grad(), stepper.forward.attention():
        one_by_one = sum(float(stepper.objective.loss(stepper.forward.outputs(pack)).sum) for pack in packs)
    with stepper.forward.attention():
        ahead = stepper.gradients(rows, 0).loss
    assert ahead == one_by_one / sum(row.loss_weight for row in rows)
