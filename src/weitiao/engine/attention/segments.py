"""Attention of one segment of a pack on the CPU, to keys and values in several pieces.

Branches that share a header each concatenate its keys and values with their own, for the forward pass and again for the
backward pass. If autograd saved the concatenation, memory would hold the header once per branch and block: 48 answers
of two tokens under a header of 400 took 3.5 times the memory that the pack takes this way.

Shapes: H heads, g of them of keys and values, q queries of the segment, k keys it sees, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .product import ProductAttention


class Kernel(Protocol):
    """Computes attention and its gradients from concatenated keys and values."""

    def forward(self, query_1HqD: Tensor, key_1gkD: Tensor, value_1gkD: Tensor) -> tuple[Tensor, ...]:
        """Return the output (1, q, H, D), then any other tensors the backward pass needs."""

    def backward(
        self, grad_1qHD: Tensor, query_1HqD: Tensor, key_1gkD: Tensor, value_1gkD: Tensor, *made: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value."""


@dataclass(frozen=True)
class Products:
    """The kernel of engine/attention/product.py; its backward pass needs only the inputs."""

    attention: ProductAttention

    def forward(self, query_1HqD: Tensor, key_1gkD: Tensor, value_1gkD: Tensor) -> tuple[Tensor, ...]:
        """Return the output (1, q, H, D)."""
        return (self.attention.forward(query_1HqD[0], key_1gkD[0], value_1gkD[0])[None],)

    def backward(
        self, grad_1qHD: Tensor, query_1HqD: Tensor, key_1gkD: Tensor, value_1gkD: Tensor, *made: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value."""
        to_query, to_key, to_value = self.attention.backward(
            grad_1qHD[0], query_1HqD[0], key_1gkD[0], value_1gkD[0]
        )
        return to_query[None], to_key[None], to_value[None]


@dataclass(frozen=True)
class Flash:
    """The kernel behind torch's `scaled_dot_product_attention` on the CPU (torch 2.13), called directly."""

    scaling: float | None
    bias_qk: Tensor | None
    """Additive mask: 0 where a query sees a key, else -inf; None for plain causal attention."""

    @staticmethod
    def takes(query_1HqD: Tensor, value_1gkD: Tensor) -> bool:
        """Return whether the kernel supports these tensors."""
        return query_1HqD.device.type == "cpu" and query_1HqD.shape[3] == value_1gkD.shape[3]

    def forward(self, query_1HqD: Tensor, key_1gkD: Tensor, value_1gkD: Tensor) -> tuple[Tensor, ...]:
        """Return the output (1, q, H, D) and the log-sum-exp of the scores."""
        output_1HqD, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(
            query_1HqD,
            key_1gkD,
            value_1gkD,
            0.0,
            self.bias_qk is None,
            attn_mask=self.bias_qk,
            scale=self.scaling,
        )
        return output_1HqD.transpose(1, 2), log_sums

    def backward(
        self, grad_1qHD: Tensor, query_1HqD: Tensor, key_1gkD: Tensor, value_1gkD: Tensor, *made: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value."""
        output_1qHD, log_sums = made
        to_query, to_key, to_value = (
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default(
                grad_1qHD.transpose(1, 2),
                query_1HqD,
                key_1gkD,
                value_1gkD,
                output_1qHD.transpose(1, 2),
                log_sums,
                0.0,
                self.bias_qk is None,
                attn_mask=self.bias_qk,
                scale=self.scaling,
            )
        )
        return to_query, to_key, to_value


def attend(kernel: Kernel, query_1HqD: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Return the output (1, q, H, D) for keys and values given as pieces (1, g, ., D), in order."""
    parts = in_one_type((query_1HqD, *keys, *values))
    attended: Tensor = _Attend.apply(kernel, *parts)  # type: ignore[no-untyped-call]
    return attended


def in_one_type(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """Cast tensors to the autocast dtype, if autocast is on: it does not cast for a custom autograd.Function.

    With trained norms, queries and keys are fp32 after the rotary embedding, but values are 16 bits.
    """
    device = parts[0].device.type
    if not torch.is_autocast_enabled(device):
        return parts
    return [part.to(torch.get_autocast_dtype(device)) for part in parts]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Kernel, query_1HqD: Tensor, *pieces: Tensor) -> Tensor:  # noqa: ANN401
        output_1qHD, *made = kernel.forward(query_1HqD, *_keys_and_values(pieces))
        ctx.kernel = kernel
        ctx.save_for_backward(query_1HqD, *pieces, *([output_1qHD, *made] if made else []))
        ctx.pieces = len(pieces)
        return output_1qHD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_1qHD: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query_1HqD, *saved = ctx.saved_tensors
        pieces, made = saved[: ctx.pieces], saved[ctx.pieces :]
        to_query, to_key, to_value = ctx.kernel.backward(
            grad_1qHD, query_1HqD, *_keys_and_values(pieces), *made
        )
        lengths = [piece.shape[2] for piece in pieces[: ctx.pieces // 2]]
        # Clone: a view as the gradient of a branch's few keys would keep the gradient of the whole header alive.
        parts = (part.clone() for whole in (to_key, to_value) for part in whole.split(lengths, dim=2))
        return None, to_query, *parts


def join_pieces(pieces: Sequence[Tensor]) -> Tensor:
    """Concatenate pieces (1, g, ., D) to (1, g, k, D); a single piece is not copied."""
    return pieces[0] if len(pieces) == 1 else torch.cat(tuple(pieces), dim=2)


def _keys_and_values(pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Concatenate pieces to keys and values; the first half of the pieces are keys."""
    half = len(pieces) // 2
    return join_pieces(pieces[:half]), join_pieces(pieces[half:])
