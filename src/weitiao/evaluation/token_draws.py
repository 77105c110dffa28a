"""Samples tokens so that each row's draws are independent of the batch: the same alone and in any batch.

Shapes: B prompts, N answers each, R = B * N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

if TYPE_CHECKING:
    from ..data.conversation import Prompt
    from .settings import GenerationSettings


class Draws(LogitsProcessor):  # type: ignore[misc]  # transformers exports it untyped
    """Makes greedy decoding sample: argmax(log p + g) with Gumbel noise g is distributed as p.

    https://arxiv.org/abs/1611.01144. Each row has a generator on the CPU, seeded by the settings' seed, its prompt and
    the number of its answer, so that neither other rows nor the device change the draws.
    """

    def __init__(self, settings: GenerationSettings, prompts: Sequence[Prompt]) -> None:
        """Seed one generator per row: for each of B prompts, one for each of N answers."""
        numbers = range(settings.num_return_sequences)
        self._generators = [_generator(settings.seed, prompt, n) for prompt in prompts for n in numbers]
        self._warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(settings.temperature)]
        if settings.top_k:
            self._warpers.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1:
            self._warpers.append(TopPLogitsWarper(settings.top_p))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores_RV = scores.float()
        for warper in self._warpers:
            scores_RV = warper(input_ids, scores_RV)
        return scores_RV + self._noise(scores_RV.shape[1]).to(scores.device)

    def _noise(self, vocabulary: int) -> Tensor:
        """Return Gumbel noise (R, V): -log e, with e from the standard exponential distribution."""
        exponential = [torch.empty(vocabulary).exponential_(generator=own) for own in self._generators]
        return -torch.stack(exponential).log()


def _generator(seed: int, prompt: Prompt, number: int) -> torch.Generator:
    said = sha256(repr((seed, number, prompt.ids)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(said[:8], "big") >> 1)
