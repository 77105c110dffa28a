"""Compute precision: plain fp32, or autocast to bf16 or fp16 with trained parameters in fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """The autocast dtype; None means no autocast, so every operation runs in its operands' dtype."""

    compute: torch.dtype | None = None

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context manager for the forward pass."""
        return torch.autocast(device.type, self.compute) if self.compute else nullcontext()

    @property
    def needs_loss_scale(self) -> bool:
        """Whether gradients would underflow without a scaled loss (fp16 only)."""
        return self.compute is torch.float16
