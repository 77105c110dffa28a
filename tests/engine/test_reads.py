"""Nothing of a step is read from the device while its packs are put into the queue, however many there are."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tiny_training import make_examples, make_training
from weitiao.data.batching.packing import make_pack
from weitiao.engine.attention import block_mask, visibility
from weitiao.engine.loop import Training
from weitiao.engine.runtime import transfer

WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
"""What has to wait for a GPU: a number that Python asks for, a size that depends on values."""


class Waits(TorchDispatchMode):
    """Counts the operations that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        self.count += func in WAITS
        return func(*args, **(kwargs or {}))


def make(folder: Path, **changes: Any) -> Training:  # noqa: ANN401
    rows = make_examples(8, seed=3, longest=24)
    return make_training(folder, rows, batch_size=8, lr=1e-2, **changes)


@pytest.mark.parametrize("method", ["lora", "full", "prefix_tuning", "diff_pruning"])
@pytest.mark.parametrize("pack_tokens", [1, 512])
def test_packs_wait_for_nothing(pack_tokens: int, method: str, tmp_path: Path) -> None:
    training = make(tmp_path, method=method, pack_tokens=pack_tokens, steps=2)
    stepper = training.stepper
    rows = training.plan.batch(0)
    packs = stepper.forward.cut(rows, pack_tokens)
    assert len(packs) == (8 if pack_tokens == 1 else 1)
    with stepper.forward.attention(), Waits() as waits:
        assert stepper.gradients(rows, 0).finite
    assert waits.count == 0, "the losses and the norm are read at once, by tolist"


def test_the_check_of_the_weights_reads_one_number(tmp_path: Path) -> None:
    stepper = make(tmp_path, method="full").stepper
    assert len(stepper.parameters) > 20
    with Waits() as waits:
        assert stepper.weights_not_finite() == []
    assert waits.count == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_check_of_the_weights_names_those_that_are_not_finite(
    value: float, dtype: torch.dtype, tmp_path: Path
) -> None:
    stepper = make(tmp_path, method="full").stepper
    first, *_, last = stepper.parameters
    for parameter in stepper.parameters.values():
        parameter.data = parameter.data.to(dtype)
    stepper.parameters[first].data.fill_(torch.finfo(dtype).max)  # large is not infinite
    assert stepper.weights_not_finite() == []
    stepper.parameters[last].data.view(-1)[-1] = value
    assert stepper.weights_not_finite() == [last]


def test_what_packs_bring_is_copied_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU a copy that waits cannot be seen: but every tensor of a pack is one that `begin_copy` returned."""
    copied: list[torch.Tensor] = []

    def kept(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        copied.append(tensor.clone())
        return copied[-1]

    for module in (transfer, visibility, block_mask):
        monkeypatch.setattr(module, "begin_copy", kept)
    pack = make_pack(make_examples(4, seed=3))
    on_cpu = torch.device("cpu")
    tensors = [
        getattr(transfer.PackTensors.of(pack, on_cpu), one.name) for one in fields(transfer.PackTensors)
    ]
    tensors.append(visibility.Layout.of(pack).bounds(on_cpu))
    places = {tensor.untyped_storage().data_ptr() for tensor in copied}
    assert all(tensor.untyped_storage().data_ptr() in places for tensor in tensors)
    assert len(tensors) == len(fields(transfer.PackTensors)) + 1
