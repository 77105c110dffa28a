"""Keys and values in pieces: what torch gives of them joined, and no more memory however many branches see a header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import tiny
from remembered import growth_of
from tiny_training import make_training
from weitiao.data.batching.packing import Segment, make_pack
from weitiao.data.example import Example
from weitiao.engine.attention.product import ProductAttention
from weitiao.engine.attention.segments import Flash, Kernel, Products, attend
from weitiao.engine.attention.visibility import Layout
from weitiao.engine.kernels.matmul import onednn_is_here
from weitiao.engine.memory.live_bytes import run_counted

HEADS, GROUPS, SIZE = 6, 2, 16
PIECES, OWN = (5, 3), 7


def _pieces(dtype: torch.dtype) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(1)

    def draw(heads: int, rows: int) -> Tensor:
        return torch.randn(1, heads, rows, SIZE, generator=generator, dtype=dtype).requires_grad_()

    keys, values = ([draw(GROUPS, rows) for rows in (*PIECES, OWN)] for _ in range(2))
    return draw(HEADS, OWN), keys, values


def _kernels(dtype: torch.dtype, window: int | None) -> list[Kernel]:
    layout = Layout((Segment(8, 15, ((0, 8),)),))
    flash = Flash(0.3, layout.bias(layout.segments[0], window, torch.empty(0, dtype=dtype)))
    products = dtype is torch.float32 and onednn_is_here()
    return [flash, Products(ProductAttention(0.3, window))] if products else [flash]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pieces_give_what_torch_gives_of_the_whole(dtype: torch.dtype, window: int | None) -> None:
    distance = torch.arange(8, 15)[:, None] - torch.arange(15)
    mask = (distance >= 0) & (distance < (window or 15))
    query, keys, values = _pieces(dtype)
    whole = (torch.cat(keys, dim=2), torch.cat(values, dim=2))
    wanted = scaled_dot_product_attention(query, *whole, attn_mask=mask, scale=0.3, enable_gqa=True)
    weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    tensors = [query, *keys, *values]
    gradients = torch.autograd.grad((wanted * weight).sum(), tensors)
    for kernel in _kernels(dtype, window):
        found = attend(kernel, query, keys, values).transpose(1, 2)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-6)
        for mine, theirs in zip(torch.autograd.grad((found * weight).sum(), tensors), gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("method", ["lora", "prefix_tuning", "full"])
def test_a_pack_of_many_branches_takes_no_more_than_was_planned(
    method: str, groups: int, tmp_path: Path
) -> None:
    """48 answers of two tokens under a header of 400: 496 rows, and 19,200 if every branch kept the header's keys."""
    header = tuple(int(token) for token in torch.arange(400) % 50)
    rows = [Example.of((*header, 60 + n, 3), (0.0,) * 400 + (1.0, 1.0), str(n)) for n in range(48)]
    model = tiny.make_llama(hidden=64, layers=2, heads=4, kv_heads=groups)
    training = make_training(tmp_path, rows, model=model, method=method)
    stepper = training.stepper
    pack = make_pack(rows)
    assert len(pack.ids_T) == 400 + 48 * 2
    for parameter in stepper.parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    stepper.forward.model.train()
    with stepper.forward.attention():
        counted = run_counted(
            lambda: stepper.objective.loss(stepper.forward.outputs(pack)).sum.backward(),
            torch.device("cpu"),
        )
    measured = max(live for _, live in counted.moments)
    assert measured <= _planned(training, 496)


def _planned(training: Any, tokens: int) -> int:  # noqa: ANN401
    from weitiao.engine.attention.backends import attention_scratch_bytes
    from weitiao.models.anatomy import base_of

    stepper = training.stepper
    grows = growth_of(stepper.forward, stepper.objective, stepper.parameters, training.plan.examples[0])
    scratch = attention_scratch_bytes(base_of(training.attached.model), 402)
    assert stepper.forward.head is not None
    chunk = stepper.objective.head_bytes(stepper.forward.head, tokens)
    return int(1.01 * (grows.peak_bytes(tokens, 402) + max(scratch, chunk)))
