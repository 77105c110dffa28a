"""Attention as matrix products against torch's own in float64: values and gradients, over shapes and windows."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from weitiao.engine.attention import product as module
from weitiao.engine.attention.product import ProductAttention, pays
from weitiao.engine.attention.segments import Products, attend
from weitiao.engine.kernels.matmul import onednn_is_here

pytestmark = pytest.mark.skipif(not onednn_is_here(), reason="this torch has no oneDNN")

SIZE = 16


@pytest.mark.parametrize("window", [None, 1, 30, 500])
@pytest.mark.parametrize(
    ("heads", "groups", "queries", "keys"),
    [(6, 2, 40, 40), (6, 2, 40, 57), (4, 4, 9, 9), (4, 1, 33, 100), (1, 1, 1, 1), (9, 3, 200, 224)],
)
@pytest.mark.parametrize("scores", [1, 3000, 10**9])
def test_it_is_torchs(
    heads: int,
    groups: int,
    queries: int,
    keys: int,
    window: int | None,
    scores: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SCORES_AT_ONCE", scores)
    monkeypatch.setattr(module, "FEWEST_QUERIES", 7)
    generator = torch.Generator().manual_seed(heads * queries)
    # As a model hands them over: the rows of all heads side by side in memory.
    ours = [
        torch.randn(rows, count, SIZE, generator=generator).transpose(0, 1).requires_grad_()
        for rows, count in ((queries, heads), (keys, groups), (keys, groups))
    ]
    exact = [tensor.detach().double().requires_grad_() for tensor in ours]
    weight = torch.randn(queries, heads, SIZE, generator=generator)

    query, key, value = (tensor[None] for tensor in ours)
    found = attend(Products(ProductAttention(0.3, window)), query, [key], [value])[0]
    distance = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)
    mask = (distance >= 0) & (distance < (window or keys))
    query, key, value = (tensor[None] for tensor in exact)
    wanted = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    wanted = wanted[0].transpose(0, 1)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=2e-6)

    (found * weight).sum().backward()
    (wanted * weight).sum().backward()
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5)


def test_values_may_be_wider_than_keys() -> None:
    query, key, value = torch.randn(4, 8, SIZE), torch.randn(2, 8, SIZE), torch.randn(2, 8, 24)
    assert ProductAttention().forward(query, key, value).shape == (8, 4, 24)


def test_short_segments_are_left_to_torch() -> None:
    assert pays(torch.empty(9, 200, 4), 3)
    assert not pays(torch.empty(9, 100, 4), 3)
    assert not pays(torch.empty(9, 200, 4), 9)
