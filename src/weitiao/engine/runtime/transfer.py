"""Asynchronous copies to the device: a pack's tensors are copied while the previous pack computes.

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
    """Copy a CPU tensor to `device`; on CUDA asynchronously, in stream order, so later operations see the copy.

    Pinned memory makes this possible: a copy from pageable memory first waits for all queued work.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class PackTensors:
    """The tensors of a pack that the model and the objective read, on one device."""

    ids_1T: Tensor
    positions_1T: Tensor
    kept_P: Tensor
    """Negative, counted from the end: a method may prepend virtual tokens, and prepends none while disabled."""
    rows_K: Tensor
    targets_K: Tensor
    weights_K: Tensor

    @classmethod
    def of(cls, pack: Pack, device: torch.device) -> PackTensors:
        """Return a pack's tensors on `device`; on CUDA the copies are asynchronous (see `begin_copy`)."""

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
    """Prepares the tensors of the next pack in advance; without `ahead` it makes them on request."""

    _made: dict[int, tuple[Pack, PackTensors]] = field(default_factory=dict)
    """Keyed by id(pack); holding the pack keeps its id from being reused."""

    def __len__(self) -> int:
        """Return how many packs' tensors are held."""
        return len(self._made)

    def ahead(self, packs: Sequence[Pack], device: torch.device) -> Iterator[Pack]:
        """Yield packs one by one; when one is yielded, copying the next has begun."""
        self._made.clear()  # leftovers of an iteration ended by an error
        for number, pack in enumerate(packs):
            for coming in packs[number : number + 2]:
                if id(coming) not in self._made:
                    self._made[id(coming)] = (coming, PackTensors.of(coming, device))
            yield pack
            self._made.pop(id(pack), None)

    def tensors(self, pack: Pack, device: torch.device) -> PackTensors:
        """Return a pack's tensors on `device`, prefetched if possible."""
        made = self._made.get(id(pack))
        return made[1] if made else PackTensors.of(pack, device)
