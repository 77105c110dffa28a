"""Copies to a device that nobody waits for."""

from __future__ import annotations

import torch
from torch import Tensor


def begin_copy(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on `device`; on CUDA its copy is only begun, and whatever is computed after waits.

    Only a copy from pinned memory does not first wait for all that the device was given before.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
