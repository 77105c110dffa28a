"""A frozen head on the CPU, processed in vocabulary blocks, so that logits stay in the processor's cache.

Uses the online softmax (Milakov and Gimelshein, https://arxiv.org/abs/1805.02867), as FlashAttention does over keys. It
keeps the largest logit so far m, the sum s of exp(logit - m) and the sum a of exp(logit - m) * head row; s and a are
scaled down when a block has a larger logit. At the end log(softmax) = logit - m - log(s), and the gradient of the
hidden states is weight * a / s - weight * target's row.

Shapes: K targets, P rows of hidden states, D width, V vocabulary; n rows at once, v vocabulary entries of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROWS_AT_ONCE = 512
WORDS_AT_ONCE = 4096
"""Together 8 MiB of logits. Blocks of 2048 and 8192 are as fast; without blocks SmolLM2's logits take 10 % longer."""


@dataclass(frozen=True)
class Streamed:
    """A head and the targets whose logits to compute."""

    weight_VD: Tensor
    factor: float
    targets_K: Tensor
    weights_K: Tensor

    def sum_and_gradient(
        self, hidden_PD: Tensor, rows_K: Tensor, wants_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the sum over k of weights_k * -log softmax(factor * hidden @ weight.T)[row_k, target_k], and its
        gradient (P, D), zero if not wanted."""
        total = self.weights_K.new_zeros(())
        gradient_PD = torch.zeros_like(hidden_PD)
        for start in range(0, len(hidden_PD), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            inside_K = (rows_K >= start) & (rows_K < start + ROWS_AT_ONCE)
            own = Streamed(self.weight_VD, self.factor, self.targets_K[inside_K], self.weights_K[inside_K])
            row_K = rows_K[inside_K] - start
            top_n1, sum_n1, chosen_K = own._stream(hidden_PD[rows], row_K, gradient_PD[rows], wants_gradient)
            total += (own.weights_K * ((top_n1 + sum_n1.log())[row_K, 0] - chosen_K)).sum()
            if wants_gradient:
                own._finish(gradient_PD[rows], sum_n1, row_K)
        return total, gradient_PD

    def log_probs_K(self, hidden_PD: Tensor, rows_K: Tensor) -> Tensor:
        """Return log softmax(factor * hidden @ weight.T)[row_k, target_k] (K,), without gradients."""
        found_K = torch.zeros_like(self.weights_K)
        for start in range(0, len(hidden_PD), ROWS_AT_ONCE):
            inside_K = (rows_K >= start) & (rows_K < start + ROWS_AT_ONCE)
            own = Streamed(self.weight_VD, self.factor, self.targets_K[inside_K], self.weights_K[inside_K])
            hidden_nD, row_K = hidden_PD[start : start + ROWS_AT_ONCE], rows_K[inside_K] - start
            top_n1, sum_n1, chosen_K = own._stream(hidden_nD, row_K, hidden_nD, wants_gradient=False)
            found_K[inside_K] = chosen_K - (top_n1 + sum_n1.log())[row_K, 0]
        return found_K

    def _stream(
        self, hidden_nD: Tensor, row_K: Tensor, expected_nD: Tensor, wants_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return m (n, 1), s (n, 1) and the targets' logits (K,); accumulates a in `expected_nD`, initially zero."""
        top_n1 = hidden_nD.new_full((len(hidden_nD), 1), -torch.inf)
        sum_n1 = hidden_nD.new_zeros(len(hidden_nD), 1)
        chosen_K = torch.zeros_like(self.weights_K)
        for start in range(0, len(self.weight_VD), WORDS_AT_ONCE):
            weight_vD = self.weight_VD[start : start + WORDS_AT_ONCE]
            logit_nv = torch.mm(hidden_nD, weight_vD.t())
            if self.factor != 1:
                logit_nv.mul_(self.factor)
            here_K = (self.targets_K >= start) & (self.targets_K < start + len(weight_vD))
            chosen_K[here_K] = logit_nv[row_K[here_K], self.targets_K[here_K] - start]
            higher_n1 = torch.maximum(top_n1, logit_nv.amax(dim=1, keepdim=True))
            shrink_n1 = (top_n1 - higher_n1).exp_()
            top_n1 = higher_n1
            above_nv = logit_nv.sub_(top_n1).exp_()
            sum_n1.mul_(shrink_n1).add_(above_nv.sum(dim=1, keepdim=True))
            if wants_gradient:
                expected_nD.mul_(shrink_n1).add_(torch.mm(above_nv, weight_vD))
        return top_n1, sum_n1, chosen_K

    def _finish(self, expected_nD: Tensor, sum_n1: Tensor, row_K: Tensor) -> None:
        """Turn a into the gradient of the hidden states, in place."""
        weight_n1 = torch.zeros_like(sum_n1).index_add_(0, row_K, self.weights_K[:, None])
        expected_nD.mul_(weight_n1 / sum_n1)
        expected_nD.index_add_(0, row_K, self.weight_VD[self.targets_K] * -self.weights_K[:, None])
        if self.factor != 1:
            expected_nD.mul_(self.factor)
