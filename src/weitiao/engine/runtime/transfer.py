"""Copies to a device that nobody waits for: the tensors of a pack travel while the pack before it computes.

Shapes: T tokens of a pack, K trained targets, P positions that predict them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.batching.packing import Int64Array, Pack


def begin_copy(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on `device`; on CUDA its copy is only begun, and whatever is computed after waits.

    Only a copy from pinned memory does not first wait for all that the device was given before.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class PackTensors:
    """What of a pack the model and the objective read, on one device."""

    ids_1T: Tensor
    positions_1T: Tensor
    kept_P: Tensor
    """Counted from the end: a method may put virtual tokens in front, and none while it is switched off."""
    rows_K: Tensor
    targets_K: Tensor
    weights_K: Tensor

    @classmethod
    def of(cls, pack: Pack, device: torch.device) -> PackTensors:
        """Return a pack's tensors; on CUDA the copies are only begun, and whatever is computed after waits for them."""

        def put(numbers: Int64Array | NDArray[np.float32]) -> Tensor:
            return begin_copy(torch.from_numpy(numbers), device)

        return cls(
            ids_1T=put(pack.ids_T)[None],
            positions_1T=put(pack.positions_T)[None],
            kept_P=put(pack.kept_P - len(pack.ids_T)),
            rows_K=put(pack.rows_K),
            targets_K=put(pack.targets_K),
            weights_K=put(pack.weights_K),
        )


@dataclass
class Prefetch:
    """Keeps the tensors of one pack ahead; without `ahead` it makes those that are asked for."""

    _made: dict[int, tuple[Pack, PackTensors]] = field(default_factory=dict)
    """By the pack's id; the pack is held so that no other takes its id."""

    def ahead(self, packs: Sequence[Pack], device: torch.device) -> Iterator[Pack]:
        """Yield packs one by one; when one is yielded, the copies of the next have begun."""
        self._made.clear()  # what an error left behind
        for number, pack in enumerate(packs):
            for coming in packs[number : number + 2]:
                if id(coming) not in self._made:
                    self._made[id(coming)] = (coming, PackTensors.of(coming, device))
            yield pack
            self._made.pop(id(pack), None)

    def tensors(self, pack: Pack, device: torch.device) -> PackTensors:
        """Return a pack's tensors on `device`, those made ahead where there are any."""
        made = self._made.get(id(pack))
        return made[1] if made else PackTensors.of(pack, device)
