"""Chunked cross-entropy: head and loss process a few rows at a time, so a pack's full logits never exist.

Shapes: K targets, P rows of hidden states that predict them, D width, V vocabulary, n rows of a chunk.

A pack of 8192 tokens with a vocabulary of 152k would need 5 GB for fp32 logits and as much for their gradient. Here
the gradient of a chunk's hidden states, (softmax(logits) - one-hot target) @ W, is computed in the forward pass, right
after the chunk's logits, which the next chunk then replaces. The backward pass only scales it by the gradient of the
loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ._outputs import Head, Outputs
from ._streamed_head import ROWS_AT_ONCE, WORDS_AT_ONCE, Streamed

CHUNK_VALUES = 1 << 24
"""Logits per chunk, 64 MiB in fp32: with fewer, reading a large head costs more than the multiplication."""

BYTES_A_LOGIT = 16
"""Peak bytes per logit of a chunk: logit, log-probability and the gradients of both, in fp32."""

WEIGHT_ROWS = 8192
"""Rows of the head's gradient computed at once, so that no second full-size gradient exists next to the sum."""


def cross_entropy_sum(outputs: Outputs) -> Tensor:
    """Return the scalar sum over k of weights_k * -log softmax(logits_row_k)[targets_k], in float32.

    A head that is one matrix is multiplied once forward and once backward, as usual. Any other head (with a bias, a cap
    or an adapter) is recomputed in the backward pass; so is an fp16 head, because its gradients need the loss scale.
    """
    head, rows, targets, weights = outputs.head, outputs.rows_K, outputs.targets_K, outputs.weights_K
    if dtype_of(head) not in (None, torch.float16):
        made = _LinearCrossEntropySum.apply(  # type: ignore[no-untyped-call]
            outputs.hidden_PD, head.weight_VD, head, rows, targets, weights
        )
        return cast(Tensor, made)
    total = weights.new_zeros(())
    for rows_slice, hidden_nD in chunks(outputs.hidden_PD, head.vocabulary):
        total = total + checkpoint(_chunk_sum, outputs, rows_slice, hidden_nD, use_reentrant=False)
    return total


def chunks(hidden_PD: Tensor, vocabulary: int) -> Iterator[tuple[slice, Tensor]]:
    """Split the rows into equal chunks of at most CHUNK_VALUES logits; yield each chunk's slice and rows."""
    rows = len(hidden_PD)
    if rows:
        pieces = ceil(rows / max(1, CHUNK_VALUES // vocabulary))
        start = 0
        for piece in torch.split(hidden_PD, ceil(rows / pieces)):
            yield slice(start, start + len(piece)), piece
            start += len(piece)


def targets_in(rows: slice, rows_K: Tensor) -> tuple[Tensor, Tensor]:
    """Return each target's row in a chunk (clamped) and whether it is in the chunk, without synchronising."""
    inside_K = (rows_K >= rows.start) & (rows_K < rows.stop)
    return (rows_K - rows.start).clamp(0, rows.stop - rows.start - 1), inside_K


def chunk_log_probs(outputs: Outputs, rows: slice, hidden_nD: Tensor) -> Tensor:
    """Return the log-probabilities of a chunk's targets, 0 for all others, with plain autograd operations."""
    log_probs_nV = outputs.head.project(hidden_nD).float().log_softmax(dim=-1)
    row_K, inside_K = targets_in(rows, outputs.rows_K)
    return inside_K * log_probs_nV[row_K, outputs.targets_K]


def _chunk_sum(outputs: Outputs, rows: slice, hidden_nD: Tensor) -> Tensor:
    """Return a chunk's part of the sum."""
    return -(outputs.weights_K * chunk_log_probs(outputs, rows, hidden_nD)).sum()


def dtype_of(head: Head) -> torch.dtype | None:
    """Return the dtype the head multiplies in; None if the head is not one matrix."""
    return None if head.weight_VD is None else head.compute or head.weight_VD.dtype


def is_streamed(head: Head) -> bool:
    """Return whether a head is processed in vocabulary blocks: a frozen fp32 matrix on the CPU."""
    weight_VD = head.weight_VD
    if weight_VD is None or weight_VD.requires_grad or weight_VD.device.type != "cpu":
        return False
    return dtype_of(head) is weight_VD.dtype is torch.float32


def logits_at_once(head: Head, tokens: int) -> int:
    """Return how many logits of a pack of `tokens` tokens are in memory at a time."""
    most = ROWS_AT_ONCE * WORDS_AT_ONCE if is_streamed(head) else CHUNK_VALUES
    return min(most, tokens * head.vocabulary)


def head_bytes(head: Head, tokens: int) -> int:
    """Return the peak bytes of a pack's logits and of what is computed from them, for `tokens` tokens."""
    return BYTES_A_LOGIT * logits_at_once(head, tokens)


class _LinearCrossEntropySum(torch.autograd.Function):
    """The sum for logits = factor * hidden @ weight.T; computes gradients in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden_PD: Tensor,
        weight_VD: Tensor,
        head: Head,
        rows_K: Tensor,
        targets_K: Tensor,
        weights_K: Tensor,
    ) -> Tensor:
        dtype = dtype_of(head)
        wants_hidden, wants_weight, *_ = ctx.needs_input_grad
        ctx.dtypes = hidden_PD.dtype, weight_VD.dtype
        if is_streamed(head) and hidden_PD.dtype is torch.float32:
            streamed = Streamed(weight_VD, head.factor, targets_K, weights_K)
            total, gradient_PD = streamed.sum_and_gradient(hidden_PD, rows_K, wants_hidden)
            ctx.save_for_backward(gradient_PD, gradient_PD[:0])
            return total
        work = Work(
            weight_VD.to(dtype), head.factor, rows_K, targets_K, weights_K, wants_hidden, wants_weight
        )
        total = weights_K.new_zeros(())
        pieces_PD = []
        for rows, hidden_nD in chunks(hidden_PD, head.vocabulary):
            total += work.add(rows, hidden_nD.to(dtype))
            pieces_PD.append(work.hidden_gradient_nD)
        gradient_PD = torch.cat(pieces_PD or [work.hidden_gradient_nD])
        ctx.save_for_backward(gradient_PD, work.weight_gradient_VD)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        hidden_PD, weight_VD = ctx.saved_tensors
        wants_hidden, wants_weight, *_ = ctx.needs_input_grad
        return (
            (grad * hidden_PD).to(ctx.dtypes[0]) if wants_hidden else None,
            (grad * weight_VD).to(ctx.dtypes[1]) if wants_weight else None,
            None,
            None,
            None,
            None,
        )


class Work:
    """Processes chunks one by one; only one chunk's logits exist at a time."""

    def __init__(
        self,
        weight_VD: Tensor,
        factor: float,
        rows_K: Tensor,
        targets_K: Tensor,
        weights_K: Tensor,
        wants_hidden: bool,
        wants_weight: bool,
        signed: bool = False,
    ) -> None:
        self.signed = signed
        self.weight_VD, self.factor = weight_VD, factor
        self.rows_K, self.targets_K, self.weights_K = rows_K, targets_K, weights_K
        self.wants_gradients = wants_hidden or wants_weight
        self.hidden_gradient_nD = weight_VD.new_zeros(0, weight_VD.shape[1], dtype=torch.float32)
        gradient_shape = weight_VD.shape if wants_weight else (0, 0)
        self.weight_gradient_VD = weight_VD.new_zeros(gradient_shape, dtype=torch.float32)

    def add(self, rows: slice, hidden_nD: Tensor) -> Tensor:
        """Return a chunk's part of the sum; store its gradients in the attributes."""
        logits_nV = torch.mm(hidden_nD, self.weight_VD.t()).float()
        if self.factor != 1:
            logits_nV.mul_(self.factor)
        row_K, inside_K = targets_in(rows, self.rows_K)
        weights_K = self.weights_K * inside_K
        chosen_K = logits_nV[row_K, self.targets_K]
        top_n1 = logits_nV.amax(dim=1, keepdim=True)
        above_nV = logits_nV.sub_(top_n1).exp_()
        sums_n = above_nV.sum(dim=1)
        if self.wants_gradients:
            self._gradients(hidden_nD, above_nV, sums_n, row_K, weights_K)
        return (weights_K * ((top_n1[:, 0] + sums_n.log())[row_K] - chosen_K)).sum()

    def log_probs_K(self, rows: slice, hidden_nD: Tensor) -> Tensor:
        """Return the log-probabilities of a chunk's targets, 0 for all others."""
        logits_nV = torch.mm(hidden_nD, self.weight_VD.t()).float().mul_(self.factor)
        row_K, inside_K = targets_in(rows, self.rows_K)
        return inside_K * (logits_nV[row_K, self.targets_K] - logits_nV.logsumexp(dim=1)[row_K])

    def _gradients(
        self, hidden_nD: Tensor, above_nV: Tensor, sums_n: Tensor, row_K: Tensor, weights_K: Tensor
    ) -> None:
        """Compute the gradients from exp(logits - top), in place.

        With s a row's sum, w its total weight and t the weighted one-hot of its targets,
        w * softmax - t = w / s * (exp(..) - s / w * t). The factor w / s is applied late, when a row has D values
        instead of V. Weights of both signs may sum to w = 0, so with `signed` the factor is applied first.
        """
        weight_n = torch.zeros_like(sums_n).index_add_(0, row_K, weights_K)
        scale_n1 = (weight_n / sums_n)[:, None]
        if self.signed:
            above_nV, scale_n1 = above_nV.mul_(scale_n1), torch.ones_like(scale_n1)
        above_nV.index_put_((row_K, self.targets_K), -weights_K / scale_n1[row_K, 0], accumulate=True)
        scale_n1 = scale_n1 * self.factor
        if hidden_nD.dtype is not torch.float32:  # scale in fp32, then round
            above_nV, scale_n1 = above_nV.mul_(scale_n1).to(hidden_nD.dtype), torch.ones_like(scale_n1)
        self.hidden_gradient_nD = torch.mm(above_nV, self.weight_VD).float().mul_(scale_n1)
        if self.weight_gradient_VD.numel():
            scaled_nD = hidden_nD.float() * scale_n1
            for rows_vD, columns_nv in zip(
                torch.split(self.weight_gradient_VD, WEIGHT_ROWS),
                torch.split(above_nV, WEIGHT_ROWS, dim=1),
                strict=True,
            ):
                rows_vD.add_(torch.mm(columns_nv.t().float(), scaled_nD))
