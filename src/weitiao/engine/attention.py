"""Attention inside a pack: every example sees itself only, causally, and nothing is padded.

Registered with transformers under PACKED, so the model's own code runs unchanged. Who sees whom travels as LAYOUT
among the arguments a model passes on to its attention.

Shapes: B = 1 pack, H heads, T rows of the pack, D head size, k keys: T and what a method puts in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from .layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

PACKED = "weitiao_packed"
"""The name of this attention in a model's configuration."""

LAYOUT = "weitiao_layout"
"""The name under which the layout of a pack travels."""

NOT_DONE_HERE = ("softcap", "s_aux", "position_bias")
"""What some models ask of their attention and this one would leave out: capped scores, sinks, biases."""


def packed_attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BHkD: Tensor,
    value_BHkD: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,  # noqa: ANN401  (whatever a model's attention passes on)
) -> tuple[Tensor, Tensor | None]:
    """Attend within each example of a pack; returns (B, T, H, D) as transformers expects.

    Queries and keys beyond those of the layout stand in front, and every example sees them. Raises ValueError for a
    model that asks for scores this attention does not make, KeyError for one that does not pass the layout on.
    """
    asked = [name for name in NOT_DONE_HERE if kwargs.get(name) is not None]
    if asked:
        raise ValueError(f"packs have no attention with {', '.join(asked)}")
    plain: Layout = kwargs[LAYOUT]
    queries, keys = query_BHTD.shape[2], key_BHkD.shape[2]
    layout = plain.behind(keys - plain.end, queries - plain.end)
    window = kwargs.get("sliding_window")
    if query_BHTD.is_cuda and layout.shares and not dropout:
        output_BHTD = _in_blocks(query_BHTD, key_BHkD, value_BHkD, scaling, layout, window)
        return output_BHTD.transpose(1, 2).contiguous(), None
    pieces = _by_segment(query_BHTD, key_BHkD, value_BHkD, dropout, scaling, layout, window)
    return torch.cat([piece.transpose(1, 2) for piece in pieces], dim=1).contiguous(), None


def _by_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    scaling: float | None,
    layout: Layout,
    window: int | None,
) -> list[Tensor]:
    """Attend segment by segment, each to its context and itself; returns (B, H, own rows, D) for each."""
    lengths, seen = layout.pieces
    # One split, whose backward pass is one cat; slices would each fill a gradient of the whole pack.
    queries = torch.split(query, layout.rows, dim=2)
    keys, values = (torch.split(whole, lengths, dim=2) for whole in (key, value))
    outputs = []
    for segment, own_query, numbers in zip(layout.segments, queries, seen, strict=True):
        mask = layout.mask(segment, window, query.device)
        output = scaled_dot_product_attention(
            own_query,
            _join(keys, numbers),
            _join(values, numbers),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(output)
    return outputs


def _join(pieces: tuple[Tensor, ...], numbers: list[int]) -> Tensor:
    return pieces[numbers[0]] if len(numbers) == 1 else torch.cat([pieces[n] for n in numbers], dim=2)


def _in_blocks(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, layout: Layout, window: int | None
) -> Tensor:
    """Attend with FlexAttention, which skips the blocks of 128 queries by 128 keys in which nothing is seen.

    For CUDA only: on the CPU it gives NaN where a row of a block sees nothing.
    """
    block_mask = layout.block_mask(key.shape[2], query.shape[2], window, query.device)
    grouped = query.shape[1] != key.shape[1]
    output: Tensor = _compiled_flex_attention()(
        query, key, value, block_mask=block_mask, scale=scaling, enable_gqa=grouped
    )
    return output


@cache
def _compiled_flex_attention() -> Callable[..., Any]:
    """Return FlexAttention as compiled: as it is it makes all scores at once."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def _no_mask(*_: object, **__: object) -> None:
    """Make no mask: the layout says it all."""


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, _no_mask)


@contextmanager
def attention_of_packs(base: PreTrainedModel) -> Iterator[None]:
    """Within the context the model's attention is that of packs; afterwards what it was."""
    before = base.config._attn_implementation
    base.set_attn_implementation(PACKED)
    try:
        yield
    finally:
        base.set_attn_implementation(before)
