"""What numbers the arithmetic is done in: fp32 as it is, bf16 and fp16 by autocast around fp32 trainables."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """The type of the arithmetic; None leaves every operation in its operands' own."""

    compute: torch.dtype | None = None

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context the forward pass runs in."""
        return torch.autocast(device.type, self.compute) if self.compute else nullcontext()

    @property
    def needs_loss_scale(self) -> bool:
        """Whether gradients would underflow without a scaled loss (fp16 only)."""
        return self.compute is torch.float16
