"""NEFTune: uniform noise on the input embeddings while training.

    x' = x + (alpha / sqrt(L * d)) * u,   u ~ Uniform(-1, 1)

with L the tokens of the sequence and d the width; https://arxiv.org/abs/2310.05914. In a pack each sequence has its
own L.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def add_noise(embeddings: nn.Module, alpha: float, lengths: Callable[[], Tensor]) -> None:
    """Make `embeddings` add noise in training mode; `lengths()` returns each token's sequence length, (T,)."""

    def hook(module: nn.Module, _: object, embedded_1TD: Tensor) -> Tensor:
        if not module.training:
            return embedded_1TD
        sizes_T = lengths().to(embedded_1TD.device)
        scale_T1 = alpha / torch.sqrt(sizes_T.float() * embedded_1TD.shape[-1])[:, None]
        noise = torch.empty_like(embedded_1TD).uniform_(-1, 1)
        return embedded_1TD + noise * scale_T1.to(embedded_1TD.dtype)

    embeddings.register_forward_hook(hook)
