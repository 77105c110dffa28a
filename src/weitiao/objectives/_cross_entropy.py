"""Cross-entropy that never makes the logits of a whole pack: the head and the loss work on a few rows at a time.

Shapes: K targets, P rows of hidden states that predict them, D width, V vocabulary, n rows of a chunk. A pack of 8192
tokens over a vocabulary of 152k would make 5 GB of logits in fp32 and as much of their gradient. Here the gradient of a
chunk's hidden states, (softmax(logits) - one-hot target) @ W, is made as soon as its logits are, which are then
overwritten by the next chunk's; the backward pass only multiplies it by the gradient of the loss.
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
"""How many logits there are at once, 64 MiB in fp32: with fewer, reading a large head costs more than multiplying."""

BYTES_A_LOGIT = 16
"""What one logit of a chunk takes at most: in fp32 itself, its logarithm, and the gradients of both."""

WEIGHT_ROWS = 8192
"""Rows of the matrix whose gradient is made at once, so that no second gradient of the whole stands beside the sum."""


def cross_entropy_sum(outputs: Outputs) -> Tensor:
    """Return the scalar sum over k of weights_k * -log softmax(logits_row_k)[targets_k], in float32.

    A head that is one matrix is multiplied once forward and once backward, as ever. Any other head (with a bias, a cap,
    an adapter on it) is computed a second time in the backward pass; so is one in fp16, whose gradients need the scale
    of the loss.
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
    """Yield equal pieces of the rows, each of at most CHUNK_VALUES logits."""
    rows = len(hidden_PD)
    if rows:
        pieces = ceil(rows / max(1, CHUNK_VALUES // vocabulary))
        start = 0
        for piece in torch.split(hidden_PD, ceil(rows / pieces)):
            yield slice(start, start + len(piece)), piece
            start += len(piece)


def targets_in(rows: slice, rows_K: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each target its row in a chunk, and 1 where it has one or 0; without asking the device anything."""
    inside_K = (rows_K >= rows.start) & (rows_K < rows.stop)
    return (rows_K - rows.start).clamp(0, rows.stop - rows.start - 1), inside_K


def _chunk_sum(outputs: Outputs, rows: slice, hidden_nD: Tensor) -> Tensor:
    """Return a chunk's part of the sum, as plain operations."""
    log_probs_nV = outputs.head.project(hidden_nD).float().log_softmax(dim=-1)
    row_K, inside_K = targets_in(rows, outputs.rows_K)
    return -(outputs.weights_K * inside_K * log_probs_nV[row_K, outputs.targets_K]).sum()


def dtype_of(head: Head) -> torch.dtype | None:
    """Return the type the matrix is multiplied in, None for a head that is not one matrix."""
    return None if head.weight_VD is None else head.compute or head.weight_VD.dtype


def is_streamed(head: Head) -> bool:
    """Return whether a head is read in blocks of words: one fp32 matrix on the CPU that does not train."""
    weight_VD = head.weight_VD
    if weight_VD is None or weight_VD.requires_grad or weight_VD.device.type != "cpu":
        return False
    return dtype_of(head) is weight_VD.dtype is torch.float32


def logits_at_once(head: Head, tokens: int) -> int:
    """Return how many logits of a pack of `tokens` tokens stand in memory at a time."""
    most = ROWS_AT_ONCE * WORDS_AT_ONCE if is_streamed(head) else CHUNK_VALUES
    return min(most, tokens * head.vocabulary)


def head_bytes(head: Head, tokens: int) -> int:
    """Return the most that the logits of a pack of `tokens` tokens, and what is made of them, take at once."""
    return BYTES_A_LOGIT * logits_at_once(head, tokens)


class _LinearCrossEntropySum(torch.autograd.Function):
    """The sum for logits = factor * hidden @ weight.T, with gradients made on the way."""

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
    """Goes through the chunks, whose logits are gone before the next one's are made."""

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
        """Return a chunk's part of the sum and leave its gradients on the attributes."""
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
        """Make the gradients from exp(logits - top), which is overwritten.

        With s the row's sum and w its weight, w * softmax - one-hot is w / s * (exp(..) - s / w * one-hot): the factor
        w / s waits until the row is D numbers wide instead of V. Weights of both signs may add up to 0: with them the
        row is multiplied at once.
        """
        weight_n = torch.zeros_like(sums_n).index_add_(0, row_K, weights_K)
        scale_n1 = (weight_n / sums_n)[:, None]
        if self.signed:
            above_nV, scale_n1 = above_nV.mul_(scale_n1), torch.ones_like(scale_n1)
        above_nV.index_put_((row_K, self.targets_K), -weights_K / scale_n1[row_K, 0], accumulate=True)
        scale_n1 = scale_n1 * self.factor
        if hidden_nD.dtype is not torch.float32:  # rounded as late as can be
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
