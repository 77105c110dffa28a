"""Attention within a pack: causal, each example sees only itself, and no padding is needed.

Registered with transformers under PACKED, so the model's own code runs unchanged. The pack's layout is passed as the
keyword argument LAYOUT, which a model forwards to its attention.

Shapes: B = 1 pack, H heads, T rows of the pack, D head size, k keys: T plus those a method prepends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_utils import AttentionInterface

from ...data.batching.packing import Segment
from ..kernels.matmul import onednn_in_use
from .product import ProductAttention, pays, scratch_bytes
from .segments import Flash, Kernel, Products, attend, join_pieces
from .visibility import Layout

PACKED = "weitiao_packed"
"""The name of this attention implementation in a model's config."""

LAYOUT = "weitiao_layout"
"""The keyword argument that carries a pack's layout."""

NOT_DONE_HERE = ("softcap", "s_aux", "position_bias")
"""Arguments that some models pass to attention and this one does not support: capped scores, sinks, biases."""

Capability = tuple[int, int]
"""A CUDA compute capability: (8, 0) is Ampere."""

FLASH_CAPABILITY: Capability = (8, 0)
FLASH_HEAD_SIZE = 192
"""Minimum compute capability and maximum head size for FlashAttention."""

FLEX_HEAD_SIZE = 16
"""Minimum head size of FlexAttention's GPU kernels (torch/_inductor/kernel/flex/flex_attention.py)."""
FLEX_GRAPHS = 64
"""Recompile limit for FlexAttention, which is compiled for training and evaluation, for packs of one and of many key
blocks, and for each kind of layer. Beyond the limit (torch's default is 8) it would silently materialise all scores."""
FLEX_KERNEL = {"BACKEND": "TRITON"}
"""Avoids the decoding kernel, which torch would use for packs of fewer than 128 rows: with dynamic lengths it finds no
configuration for that kernel (torch 2.11), and the kernel splits the keys into 132 parts, each with its own output."""


@dataclass(frozen=True)
class Call:
    """The arguments of one attention call, with the layout of its rows."""

    query_BHTD: Tensor
    key_BHkD: Tensor
    value_BHkD: Tensor
    layout: Layout
    scaling: float | None = None
    window: int | None = None
    """Sliding window: most tokens a token sees, itself included; None for no limit."""
    dropout: float = 0.0

    @property
    def grouped(self) -> bool:
        """Whether several query heads share a key-value head."""
        return self.query_BHTD.shape[1] != self.key_BHkD.shape[1]


# Excluded from torch.compile: the layout differs per pack, so a graph through it would be recompiled for each pack.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def packed_attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BHkD: Tensor,
    value_BHkD: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,  # noqa: ANN401  (any argument a model passes to its attention)
) -> tuple[Tensor, Tensor | None]:
    """Attend within each example of a pack; returns (B, T, H, D) and None, as transformers expects.

    Queries and keys in excess of the layout's rows are at the front, and every example sees them. Raises ValueError if
    the model passes an unsupported argument (NOT_DONE_HERE), KeyError if it does not pass the layout.
    """
    asked = [name for name in NOT_DONE_HERE if kwargs.get(name) is not None]
    if asked:
        raise ValueError(f"packs have no attention with {', '.join(asked)}")
    plain: Layout = kwargs[LAYOUT]
    queries, keys = query_BHTD.shape[2], key_BHkD.shape[2]
    layout = plain.behind(keys - plain.end, queries - plain.end)
    window = kwargs.get("sliding_window")
    call = Call(*_in_one_type(query_BHTD, key_BHkD, value_BHkD), layout, scaling, window, dropout)
    return choose_backend(call, _capability(query_BHTD.device)).attend(call), None


def _in_one_type(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cast queries, keys and values to the autocast dtype, if autocast is on, as torch's own attention does.

    If norms or embeddings are trained in fp32, queries and keys are fp32 after rotary embedding but values are bf16.
    """
    device_type = query.device.type
    if not torch.is_autocast_enabled(device_type):
        return query, key, value
    dtype = torch.get_autocast_dtype(device_type)
    return query.to(dtype), key.to(dtype), value.to(dtype)


@cache
def _capability(device: torch.device) -> Capability | None:
    """Return a CUDA device's compute capability, None for any other device."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def choose_backend(call: Call, capability: Capability | None) -> Backend:
    """Return the first of BACKENDS that supports a call; `capability` is None for devices other than CUDA."""
    return next(backend for backend in BACKENDS if backend.takes(call, capability))


def _varlen_takes(call: Call, capability: Capability | None) -> bool:
    """Return whether FlashAttention supports a call: Ampere or newer, 16 bits, and no shared prefixes.

    The head sizes are those whose backward pass torch supports on every such GPU: sm86 and sm89 require less than 256.
    """
    size = call.query_BHTD.shape[3]
    return (
        capability is not None
        and capability >= FLASH_CAPABILITY
        and call.query_BHTD.dtype in (torch.bfloat16, torch.float16)
        and size % 8 == 0
        and size <= FLASH_HEAD_SIZE
        and call.value_BHkD.shape[3] == size
        and not call.layout.shares
        and not call.dropout
    )


def varlen_arguments(call: Call) -> dict[str, Any]:
    """Return the arguments of `torch.nn.attention.varlen.varlen_attn` for a call: (T, H, D) and cumulative lengths.

    Its window counts the tokens to the left of a token, ours includes the token; (-1, 0) is plain causal attention.
    """
    query_THD, key_THD, value_THD = (
        whole[0].transpose(0, 1) for whole in (call.query_BHTD, call.key_BHkD, call.value_BHkD)
    )
    bounds = call.layout.bounds(call.query_BHTD.device)
    longest = max(call.layout.rows)
    # torch 2.11 has no enable_gqa: FlashAttention's kernel handles grouped heads by itself, forward and backward.
    grouped = {"enable_gqa": call.grouped} if _varlen_is_told_of_groups() else {}
    return {
        "query": query_THD,
        "key": key_THD,
        "value": value_THD,
        "cu_seq_q": bounds,
        "cu_seq_k": bounds,
        "max_q": longest,
        "max_k": longest,
        "scale": call.scaling,
        "window_size": (-1 if call.window is None else call.window - 1, 0),
        **grouped,
    }


@cache
def _varlen_is_told_of_groups() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in signature(varlen_attn).parameters


def _varlen(call: Call) -> Tensor:
    """Attend with FlashAttention's variable-length kernel: one launch for the whole pack."""
    from torch.nn.attention.varlen import varlen_attn

    output_THD = varlen_attn(**varlen_arguments(call))
    assert isinstance(output_THD, Tensor)  # a tuple only if more outputs are requested
    return output_THD[None]


def _flex_takes(call: Call, capability: Capability | None) -> bool:
    """Return whether to use FlexAttention: a GPU, shared or prepended keys, and large enough heads."""
    smallest = min(call.query_BHTD.shape[3], call.value_BHkD.shape[3])
    large_enough = smallest >= FLEX_HEAD_SIZE
    return capability is not None and call.layout.shares and large_enough and not call.dropout


def _flex(call: Call) -> Tensor:
    """Attend with FlexAttention, which skips blocks of 128 queries by 128 keys that are fully masked.

    For CUDA only: on the CPU it returns NaN if a row of a block sees nothing.
    """
    query, key = call.query_BHTD, call.key_BHkD
    block_mask = call.layout.block_mask(key.shape[2], query.shape[2], call.window, query.device)
    with torch._dynamo.config.patch(recompile_limit=FLEX_GRAPHS):
        output_BHTD: Tensor = _compiled_flex_attention()(
            query,
            key,
            call.value_BHkD,
            block_mask=block_mask,
            scale=call.scaling,
            enable_gqa=call.grouped,
            kernel_options=FLEX_KERNEL,
        )
    return output_BHTD.transpose(1, 2).contiguous()


@cache
def _compiled_flex_attention() -> Callable[..., Any]:
    """Return FlexAttention, compiled: uncompiled it materialises all scores."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def _segments_take(call: Call, capability: Capability | None) -> bool:
    return True


def _segments(call: Call) -> Tensor:
    """Attend segment by segment, each to its context and itself."""
    layout = call.layout
    lengths, seen = layout.pieces
    # One split has one cat as its backward pass; slices would each allocate a gradient of the whole pack.
    queries = torch.split(call.query_BHTD, layout.rows, dim=2)
    keys, values = (torch.split(whole, lengths, dim=2) for whole in (call.key_BHkD, call.value_BHkD))
    outputs = []
    for segment, own_query, numbers in zip(layout.segments, queries, seen, strict=True):
        seen_by_it = [[pieces[number] for number in numbers] for pieces in (keys, values)]
        kernel = _kernel(call, segment, own_query)
        outputs.append(
            _by_torch(call, segment, own_query, *seen_by_it)
            if kernel is None
            else attend(kernel, own_query, *seen_by_it)
        )
    return torch.cat(outputs, dim=1).contiguous()


def _kernel(call: Call, segment: Segment, query_1HqD: Tensor) -> Kernel | None:
    """Return the kernel for keys in pieces; None to use torch's attention on concatenated keys."""
    if _pays(call, query_1HqD):
        return Products(ProductAttention(call.scaling, call.window))
    if segment.context and not call.dropout and Flash.takes(query_1HqD, call.value_BHkD):
        return Flash(call.scaling, call.layout.bias(segment, call.window, query_1HqD))
    return None


def _pays(call: Call, query_1HqD: Tensor) -> bool:
    """Return whether plain matrix products are faster than torch's attention for a segment."""
    is_fp32 = query_1HqD.dtype is torch.float32 and query_1HqD.device.type == "cpu"
    return is_fp32 and onednn_in_use() and not call.dropout and pays(query_1HqD[0], call.key_BHkD.shape[1])


def attention_scratch_bytes(base: PreTrainedModel, longest: int) -> int:
    """Return the scratch bytes of attention over an example of `longest` tokens, besides its output.

    On the CPU these are concatenated keys and values, their gradients, and the scores of a block.
    """
    if base.device.type != "cpu":
        return 0
    config = base.config.get_text_config().to_dict()
    heads = config.get("num_attention_heads") or 1
    groups = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or (config.get("hidden_size") or 0) // heads
    joined_bytes = int(4 * longest * groups * size * base.dtype.itemsize)
    multiplies = onednn_in_use() and base.dtype is torch.float32
    return joined_bytes + (scratch_bytes(longest, heads // groups) if multiplies else 0)


def _by_torch(
    call: Call, segment: Segment, query_1HqD: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]
) -> Tensor:
    mask = call.layout.mask(segment, call.window, query_1HqD.device)
    output_1HqD = scaled_dot_product_attention(
        query_1HqD,
        join_pieces(keys),
        join_pieces(values),
        attn_mask=mask,
        dropout_p=call.dropout,
        is_causal=mask is None,
        scale=call.scaling,
        enable_gqa=call.grouped,
    )
    return output_1HqD.transpose(1, 2)


@dataclass(frozen=True)
class Backend:
    """An implementation of packed attention."""

    name: str
    takes: Callable[[Call, Capability | None], bool]
    attend: Callable[[Call], Tensor]
    """Returns (B, T, H, D)."""


BACKENDS: tuple[Backend, ...] = (
    Backend("varlen", _varlen_takes, _varlen),
    Backend("flex", _flex_takes, _flex),
    Backend("segments", _segments_take, _segments),
)
"""All backends, fastest first; the first that supports a call computes it."""


# No mask function is registered: the layout replaces masks. transformers then creates none, which also avoids its
# inspection of position_ids, a device synchronisation in every pack.
AttentionInterface.register(PACKED, packed_attention)


@contextmanager
def attention_of_packs(base: PreTrainedModel) -> Iterator[None]:
    """Within the context, the model uses packed attention; the previous implementation is restored on exit."""
    before = base.config._attn_implementation
    base.set_attn_implementation(PACKED)
    try:
        yield
    finally:
        base.set_attn_implementation(before)
