"""Keeps saved activations in CPU memory between the forward and the backward pass."""

from __future__ import annotations

from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, UntypedStorage, nn
from torch.autograd.graph import saved_tensors_hooks

SMALLEST_BYTES = 1 << 16
"""Smaller tensors stay on the device: copying them costs more than the memory it frees."""

Kept = Tensor | tuple[torch.device, Tensor]
"""A tensor left in place, or an offloaded tensor's device and its CPU copy."""


class offloaded(saved_tensors_hooks):
    """Within the context, tensors saved for the backward pass are moved to the CPU.

    Unlike `torch.autograd.graph.save_on_cpu`, weights and small tensors stay in place, and a tensor that several
    operations save (such as the input of several projections) is copied once.
    """

    def __init__(self, model: nn.Module) -> None:
        """Leave the parameters and buffers of `model` in place."""
        self._stays = {_storage(tensor) for tensor in chain(model.parameters(), model.buffers())}
        self._copies: WeakKeyDictionary[UntypedStorage, dict[object, Tensor]] = WeakKeyDictionary()
        super().__init__(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> Kept:
        storage = _storage(tensor)
        if storage in self._stays or tensor.nbytes < SMALLEST_BYTES:
            return tensor.detach()
        # Views of one storage hold the same values only if their layout matches and nothing was written in between.
        which = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version)
        copies = self._copies.setdefault(storage, {})
        if which not in copies:
            copies[which] = _on_cpu(tensor)
        return tensor.device, copies[which]

    def _unpack(self, kept: Kept) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        device, copy = kept
        return copy.to(device, non_blocking=True)


def _on_cpu(tensor: Tensor) -> Tensor:
    """Return a CPU copy, in pinned memory for CUDA tensors so that the copy is asynchronous."""
    copy = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return copy.copy_(tensor.detach(), non_blocking=True)


def _storage(tensor: Tensor) -> UntypedStorage:
    return tensor.untyped_storage()
