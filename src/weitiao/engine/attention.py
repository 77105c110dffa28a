"""Attention inside a pack: every example sees itself only, causally, and nothing is padded or masked out.

Registered with transformers under PACKED, so the model's own code runs unchanged. Where examples begin travels in
`cu_seq_lens_q`, the name transformers' own padding-free kernels use.

Shapes: B = 1 pack, H heads, T tokens of the pack, D head size, Q a query's and k a key's index within an example.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

PACKED = "weitiao_packed"
"""The name of this attention in a model's configuration."""

NOT_DONE_HERE = ("softcap", "s_aux", "position_bias")
"""What some models ask of their attention and this one would leave out: capped scores, sinks, biases."""


def packed_attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,  # noqa: ANN401  (whatever a model's attention passes on)
) -> tuple[Tensor, Tensor | None]:
    """Attend within each example of a pack; returns (B, T, H, D) as transformers expects.

    Raises ValueError for a model that asks for scores this attention does not make, KeyError for one that does not
    pass the bounds on.
    """
    asked = [name for name in NOT_DONE_HERE if kwargs.get(name) is not None]
    if asked:
        raise ValueError(f"packs have no attention with {', '.join(asked)}")
    lengths = [end - start for start, end in pairwise(kwargs["cu_seq_lens_q"].tolist())]
    window = kwargs.get("sliding_window")
    # One split, whose backward pass is one cat; slices would each fill a gradient of the whole pack.
    splits = (torch.split(whole, lengths, dim=2) for whole in (query_BHTD, key_BHTD, value_BHTD))
    pieces = [_causal(q, k, v, dropout, scaling, window) for q, k, v in zip(*splits, strict=True)]
    output_BHTD = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)
    return output_BHTD.transpose(1, 2).contiguous(), None


def _causal(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Attend causally within one example; with a sliding window, to the last `window` tokens only."""
    length = query.shape[2]
    mask = None
    if window is not None and length > window:
        distance_Qk = torch.arange(length, device=query.device)[:, None] - torch.arange(
            length, device=query.device
        )
        mask = (distance_Qk >= 0) & (distance_Qk < window)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _no_mask(*_: object, **__: object) -> None:
    """Make no mask: the bounds of the examples say it all."""


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
