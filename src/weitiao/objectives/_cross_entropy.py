"""Cross-entropy whose backward pass reuses the logits' own memory.

Shapes: K positions, V vocabulary. Plain `F.cross_entropy` keeps a float32 log-softmax and makes a gradient beside the
logits: three times their memory. Here the gradient, softmax(logits) minus the one-hot target, is written over the
logits in chunks of rows, so nothing of their size is ever added.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_VALUES = 1 << 22
"""How many logits are worked on at once: 16 MiB in float32."""


def cross_entropy_sum(logits_KV: Tensor, targets_K: Tensor, weights_K: Tensor) -> Tensor:
    """Return the scalar sum over k of weights_k * -log softmax(logits_k)[targets_k], in float32.

    The backward pass overwrites `logits_KV`; autograd raises RuntimeError where the operation that made them needs
    them unchanged.
    """
    return cast(Tensor, _CrossEntropySum.apply(logits_KV, targets_K, weights_K))  # type: ignore[no-untyped-call]


def _row_chunks(logits_KV: Tensor) -> range:
    """Return the first rows of chunks of about CHUNK_VALUES logits."""
    rows = max(1, CHUNK_VALUES // max(1, logits_KV.shape[1]))
    return range(0, logits_KV.shape[0], rows)


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_KV: Tensor, targets_K: Tensor, weights_K: Tensor) -> Tensor:  # noqa: ANN401
        starts = _row_chunks(logits_KV)
        log_sums_K = torch.cat(
            [logits_KV[s : s + starts.step].float().logsumexp(dim=-1) for s in starts]
            or [weights_K.new_zeros(0)]
        )
        chosen_K = logits_KV.gather(1, targets_K[:, None]).squeeze(1).float()
        ctx.save_for_backward(logits_KV, targets_K, weights_K, log_sums_K)
        return (weights_K * (log_sums_K - chosen_K)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        logits_KV, targets_K, weights_K, log_sums_K = ctx.saved_tensors
        scale_K1 = (grad * weights_K)[:, None]
        starts = _row_chunks(logits_KV)
        for s in starts:
            rows = slice(s, s + starts.step)
            gradient = logits_KV[rows].float().sub_(log_sums_K[rows, None]).exp_().mul_(scale_K1[rows])
            logits_KV[rows] = gradient.to(logits_KV.dtype)
        minus_K1 = -scale_K1.to(logits_KV.dtype)
        return logits_KV.scatter_add_(1, targets_K[:, None], minus_K1), None, None
