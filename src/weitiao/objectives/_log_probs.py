"""Differentiable log-probabilities of targets, computed without the logits of a whole pack.

    d/dh sum_k g_k log softmax(h_row_k W^T)[target_k] = sum_k g_k (W[target_k] - softmax(h_row_k W^T) W)

is the gradient of a cross-entropy with weights -g, of either sign: the backward pass recomputes the logits of a few
rows at a time and continues as _cross_entropy.py does.

Shapes: K targets, P rows of hidden states that predict them, S sequences, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ._cross_entropy import Work, chunk_log_probs, chunks, dtype_of, is_streamed
from ._outputs import Head, Outputs
from ._streamed_head import Streamed


def sequence_log_probs(outputs: Outputs) -> Tensor:
    """Return each sequence's weighted sum of its targets' log-probabilities (S,), in nats, in fp32."""
    return outputs.sums_S(target_log_probs(outputs))


def target_log_probs(outputs: Outputs) -> Tensor:
    """Return log softmax(logits_row_k)[targets_k] (K,), in nats, in fp32, differentiable."""
    head, rows, targets = outputs.head, outputs.rows_K, outputs.targets_K
    if dtype_of(head) not in (None, torch.float16):
        made = _LinearLogProbs.apply(  # type: ignore[no-untyped-call]
            outputs.hidden_PD, head.weight_VD, head, rows, targets
        )
        return cast(Tensor, made)
    total_K = torch.zeros(len(targets), device=outputs.hidden_PD.device)
    for rows_slice, hidden_nD in chunks(outputs.hidden_PD, head.vocabulary):
        total_K = total_K + checkpoint(chunk_log_probs, outputs, rows_slice, hidden_nD, use_reentrant=False)
    return total_K


class _LinearLogProbs(torch.autograd.Function):
    """Log-probabilities for logits = factor * hidden @ weight.T."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden_PD: Tensor,
        weight_VD: Tensor,
        head: Head,
        rows_K: Tensor,
        targets_K: Tensor,
    ) -> Tensor:
        ctx.head = head
        ctx.save_for_backward(hidden_PD, weight_VD, rows_K, targets_K)
        weights_K = torch.ones(len(targets_K), device=hidden_PD.device)
        if is_streamed(head) and hidden_PD.dtype is torch.float32:
            return Streamed(weight_VD, head.factor, targets_K, weights_K).log_probs_K(hidden_PD, rows_K)
        dtype = cast(torch.dtype, dtype_of(head))
        work = Work(weight_VD.to(dtype), head.factor, rows_K, targets_K, weights_K, False, False)
        found_K = torch.zeros_like(weights_K)
        for rows, hidden_nD in chunks(hidden_PD, head.vocabulary):
            found_K += work.log_probs_K(rows, hidden_nD.to(dtype))
        return found_K

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_K: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        hidden_PD, weight_VD, rows_K, targets_K = ctx.saved_tensors
        head: Head = ctx.head
        wants_hidden, wants_weight, *_ = ctx.needs_input_grad
        if is_streamed(head) and hidden_PD.dtype is torch.float32:
            streamed = Streamed(weight_VD, head.factor, targets_K, -grad_K)
            return streamed.sum_and_gradient(hidden_PD, rows_K, wants_hidden)[1], None, None, None, None
        dtype = cast(torch.dtype, dtype_of(head))
        work = Work(
            weight_VD.to(dtype),
            head.factor,
            rows_K,
            targets_K,
            -grad_K,
            wants_hidden,
            wants_weight,
            signed=True,
        )
        pieces = [work.hidden_gradient_nD]
        for rows, hidden_nD in chunks(hidden_PD, head.vocabulary):
            work.add(rows, hidden_nD.to(dtype))
            pieces.append(work.hidden_gradient_nD)
        return (
            torch.cat(pieces).to(hidden_PD.dtype) if wants_hidden else None,
            work.weight_gradient_VD.to(weight_VD.dtype) if wants_weight else None,
            None,
            None,
            None,
        )
