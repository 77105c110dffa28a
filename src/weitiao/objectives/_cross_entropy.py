"""Cross-entropy whose backward pass reuses the logits' own memory.

Shapes: K targets, P rows of logits that predict them, V vocabulary; P = K where each row has one target. Plain
`F.cross_entropy` keeps a float32 log-softmax and makes a gradient beside the logits: three times their memory. Here
the gradient, softmax(logits) minus the one-hot target, is written over the logits in chunks of rows, so nothing of
their size is ever added.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_VALUES = 1 << 22
"""How many logits are worked on at once: 16 MiB in float32."""


def cross_entropy_sum(
    logits_PV: Tensor, targets_K: Tensor, weights_K: Tensor, rows_K: Tensor | None = None
) -> Tensor:
    """Return the scalar sum over k of weights_k * -log softmax(logits_row_k)[targets_k], in float32.

    `rows_K` names the row of each target where one row has several; left out, they go in pairs. The backward pass
    overwrites `logits_PV`; autograd raises RuntimeError where the operation that made them needs them unchanged.
    """
    if rows_K is None:
        rows_K = torch.arange(len(targets_K), device=targets_K.device)
    return cast(Tensor, _CrossEntropySum.apply(logits_PV, targets_K, weights_K, rows_K))  # type: ignore[no-untyped-call]


def _row_chunks(logits_PV: Tensor) -> range:
    """Return the first rows of chunks of about CHUNK_VALUES logits."""
    rows = max(1, CHUNK_VALUES // max(1, logits_PV.shape[1]))
    return range(0, logits_PV.shape[0], rows)


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits_PV: Tensor,
        targets_K: Tensor,
        weights_K: Tensor,
        rows_K: Tensor,
    ) -> Tensor:
        starts = _row_chunks(logits_PV)
        log_sums_P = torch.cat(
            [logits_PV[s : s + starts.step].float().logsumexp(dim=-1) for s in starts]
            or [weights_K.new_zeros(0)]
        )
        chosen_K = logits_PV[rows_K, targets_K].float()
        ctx.save_for_backward(logits_PV, targets_K, weights_K, rows_K, log_sums_P)
        return (weights_K * (log_sums_P[rows_K] - chosen_K)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        logits_PV, targets_K, weights_K, rows_K, log_sums_P = ctx.saved_tensors
        scale_K = grad * weights_K
        scale_P1 = torch.zeros_like(log_sums_P).index_add_(0, rows_K, scale_K)[:, None]
        starts = _row_chunks(logits_PV)
        for s in starts:
            rows = slice(s, s + starts.step)
            gradient = logits_PV[rows].float().sub_(log_sums_P[rows, None]).exp_().mul_(scale_P1[rows])
            logits_PV[rows] = gradient.to(logits_PV.dtype)
        minus_K = -scale_K.to(logits_PV.dtype)
        return logits_PV.index_put_((rows_K, targets_K), minus_K, accumulate=True), None, None, None
