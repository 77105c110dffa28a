"""Which attention computes a pack, and what FlashAttention is given for it, against what torch documents of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters

from tiny_training import make_examples, make_ids
from weitiao.data.batching.packing import Pack, make_pack
from weitiao.data.example import Example
from weitiao.engine.attention.backends import LAYOUT, Call, choose_backend, packed_attention, varlen_arguments
from weitiao.engine.attention.visibility import Layout
from weitiao.engine.memory.live_bytes import LiveBytes

AMPERE, TURING = (8, 0), (7, 5)


def apart(count: int = 4) -> Pack:
    return make_pack(make_examples(count, seed=3), share=False)


def alike() -> Pack:
    header = make_ids(20)
    return make_pack([Example.of((*header, n, 5), (1.0,) * 22, "rows.json:1") for n in (3, 4)])


def make_call(pack: Pack, size: int = 16, kv_heads: int = 2, seed: int = 0, **changes: Any) -> Call:  # noqa: ANN401
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(1, heads, len(pack.ids_T), size, generator=generator) for heads in (4, kv_heads, kv_heads)
    )
    return Call(query, key, value, Layout.of(pack), **changes)


def in_bits(call: Call, dtype: torch.dtype) -> Call:
    return Call(
        *(whole.to(dtype) for whole in (call.query_BHTD, call.key_BHkD, call.value_BHkD)),
        call.layout,
        call.scaling,
        call.window,
        call.dropout,
    )


@pytest.mark.parametrize(
    ("call", "dtype", "capability", "chosen"),
    [
        (make_call(apart()), torch.bfloat16, AMPERE, "varlen"),
        (make_call(apart()), torch.float16, (9, 0), "varlen"),
        (make_call(apart(), window=5), torch.bfloat16, AMPERE, "varlen"),
        (make_call(apart()), torch.float32, AMPERE, "segments"),
        (make_call(apart()), torch.float16, TURING, "segments"),
        (make_call(apart()), torch.bfloat16, None, "segments"),
        (make_call(apart(), dropout=0.1), torch.bfloat16, AMPERE, "segments"),
        (make_call(apart(), size=20), torch.bfloat16, AMPERE, "segments"),
        (make_call(apart(), size=256), torch.bfloat16, AMPERE, "segments"),
        (make_call(alike()), torch.bfloat16, AMPERE, "flex"),
        (make_call(alike()), torch.float32, TURING, "flex"),
        (make_call(alike(), dropout=0.1), torch.bfloat16, AMPERE, "segments"),
        (make_call(alike(), size=8), torch.bfloat16, AMPERE, "segments"),
        (make_call(alike()), torch.float32, None, "segments"),
    ],
)
def test_the_first_backend_that_takes_a_call(
    call: Call, dtype: torch.dtype, capability: tuple[int, int] | None, chosen: str
) -> None:
    assert choose_backend(in_bits(call, dtype), capability).name == chosen


def test_a_prefix_in_front_of_the_queries_is_a_context_that_varlen_does_not_take() -> None:
    pack = apart()
    call = in_bits(make_call(pack), torch.bfloat16)
    behind = Call(call.query_BHTD, call.key_BHkD, call.value_BHkD, Layout.of(pack).behind(5, 0))
    assert choose_backend(behind, AMPERE).name == "flex"


def varlen_as_documented(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool = True,
) -> torch.Tensor:
    """Do what torch documents of varlen_attn, by scores: query i sees the keys i - left to i + right.

    torch 2.11 takes no `enable_gqa`, and its kernel groups heads by itself.
    """
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert enable_gqa or query.shape[1] == key.shape[1]
    key, value = (whole.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for whole in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    left, right = (10**9 if width < 0 else width for width in window_size)
    output = torch.empty_like(query)
    for start, end in zip(cu_seq_q.tolist(), cu_seq_q.tolist()[1:], strict=False):
        assert end - start <= max_q == max_k
        scores_Hqk = torch.einsum("qhd,khd->hqk", query[start:end], key[start:end]) * scale
        ahead = torch.arange(end - start) - torch.arange(end - start)[:, None]
        scores_Hqk = scores_Hqk.masked_fill(~((ahead <= right) & (-ahead <= left)), -torch.inf)
        output[start:end] = torch.einsum("hqk,khd->qhd", scores_Hqk.softmax(-1), value[start:end])
    return output


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 6),
    kv_heads=st.sampled_from([1, 2, 4]),
    window=st.sampled_from([None, 1, 3, 50]),
    scaling=st.sampled_from([None, 0.3]),
    fill_to=st.sampled_from([None, 100]),
)
def test_what_varlen_is_given_says_what_the_segments_do(
    count: int, kv_heads: int, window: int | None, scaling: float | None, fill_to: int | None
) -> None:
    pack = make_pack(make_examples(count, seed=count), share=False, fill_to=fill_to)
    call = make_call(pack, kv_heads=kv_heads, window=window, scaling=scaling)
    found = varlen_as_documented(**varlen_arguments(call))[None]
    wanted, _ = packed_attention(
        torch.nn.Identity(), call.query_BHTD, call.key_BHkD, call.value_BHkD, None,
        scaling=scaling, sliding_window=window, **{LAYOUT: call.layout},
    )  # fmt: skip
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_arguments_are_those_that_the_installed_torch_takes() -> None:
    """The kernel's own shape rules, on tensors without storage: (T, H, D) comes back, gradients reach all three."""
    from torch.nn.attention.varlen import varlen_attn

    call = in_bits(make_call(apart()), torch.bfloat16)
    moved = Call(
        *(x.to("meta").requires_grad_() for x in (call.query_BHTD, call.key_BHkD, call.value_BHkD)),
        call.layout,
    )
    output = varlen_attn(**varlen_arguments(moved))
    assert output.shape == (len(apart().ids_T), 4, 16)
    output.sum().backward()
    assert moved.key_BHkD.grad is not None
    assert moved.key_BHkD.grad.shape == moved.key_BHkD.shape


def test_the_tensors_of_a_layout_are_made_once_a_pack() -> None:
    pack, device = apart(), torch.device("cpu")
    layout = Layout.of(pack)
    assert layout.bounds(device) is layout.bounds(device)
    assert layout.bounds(device).tolist() == list(pack.starts)
    padded = layout.padded_bounds(device).tolist()
    assert len(padded) == len(pack.ids_T) + 1
    assert padded == [*pack.starts, *[len(pack.ids_T)] * (len(padded) - len(pack.starts))]


def test_under_autocast_queries_keys_and_values_have_its_type() -> None:
    """Where norms train, in fp32, rotary positions leave queries and keys in fp32 beside values in bf16."""
    call = make_call(alike())
    mixed = (call.query_BHTD, call.key_BHkD, call.value_BHkD.bfloat16())
    arguments: dict[str, Any] = {"scaling": 0.3, LAYOUT: call.layout}
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = packed_attention(torch.nn.Identity(), *mixed, None, **arguments)
    wanted, _ = packed_attention(torch.nn.Identity(), *(x.bfloat16() for x in mixed), None, **arguments)
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, wanted)


def flex_graphs(call: Call, compiled: Any) -> int:  # noqa: ANN401
    """Return how often FlexAttention has been compiled once it has attended to a call."""
    query, key = call.query_BHTD, call.key_BHkD
    mask = call.layout.block_mask(key.shape[2], query.shape[2], call.window, query.device)
    with torch.no_grad():
        compiled(query, key, call.value_BHkD, block_mask=mask, enable_gqa=call.grouped)
    return int(counters["stats"]["unique_graphs"])


def behind_a_prefix(keys: int, queries: int, window: int | None) -> Call:
    """Return a call for a pack in front of which a method puts keys, of which so many also look."""
    plain = make_call(make_pack(make_examples(3, seed=8), share=False))
    query = torch.cat([torch.randn(1, 4, queries, 16), plain.query_BHTD], dim=2)
    key, value = (
        torch.cat([torch.randn(1, 2, keys, 16), whole], dim=2) for whole in (plain.key_BHkD, plain.value_BHkD)
    )
    return Call(query, key, value, plain.layout.behind(keys, queries), window=window)


def test_flex_attention_is_compiled_no_more_for_another_pack_prefix_or_window() -> None:
    """Counted by torch's own tracer, whose graph runs as it is: on the CPU that is the formula.

    There are two graphs, as torch tells apart whether there are as many keys as queries.
    """
    from torch.nn.attention.flex_attention import flex_attention

    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(flex_attention, dynamic=True, backend="eager")
    graphs = [flex_graphs(call, compiled) for call in (make_call(alike()), behind_a_prefix(5, 0, None))]
    assert graphs == [1, 2]
    for keys, queries, window in ((7, 7, 3), (4, 0, 9), (2, 2, None), (3, 0, None)):
        assert flex_graphs(behind_a_prefix(keys, queries, window), compiled) == 2
    torch._dynamo.reset()


def test_the_memory_of_flex_attention_can_be_measured() -> None:
    """A memory plan measures a pack with a prefix, which goes through FlexAttention on a GPU, compiled."""
    from torch.nn.attention.flex_attention import flex_attention

    torch._dynamo.reset()
    counters.clear()
    with LiveBytes("cpu"):
        graphs = flex_graphs(make_call(alike()), torch.compile(flex_attention, dynamic=True, backend="eager"))
    assert graphs == 1
    torch._dynamo.reset()
