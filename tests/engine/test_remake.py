"""What is made again in the backward pass: the same bits, and less of it kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from weitiao.engine.memory.live_bytes import run_counted
from weitiao.engine.memory.rematerialize import remade

ROWS, WIDTH = 64, 128


def _drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()


def _gated(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A gated MLP whose last layer trains, and so keeps what goes into it."""
    gate, up, down = _drawn(WIDTH, 40), _drawn(WIDTH, 44), _drawn(WIDTH, 48)
    first, second, third = gate[:, :40], up[:, :40], down[:, :40].t()
    return lambda x: (activation(x @ first) * (x @ second)) @ third


def _norm_and_layer(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A frozen norm that computes in fp32, before a layer that trains."""
    weight, layer = _drawn(WIDTH).detach().to(dtype), _drawn(WIDTH, WIDTH, dtype=dtype)

    def run(x: Tensor) -> Tensor:
        wide = x.to(torch.float32)
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)
        return functional.linear(weight * normed.to(x.dtype), layer)

    return run


def _through_a_scaled_sum(x: Tensor) -> Tensor:
    """Products of what cannot be made again, of a number, and of a tensor with itself."""
    y = x.exp() * 2.0
    return (y * y) * (y + x) @ x.t()


CASES: dict[str, tuple[Callable[[Tensor], Tensor], torch.dtype]] = {
    "silu": (_gated(functional.silu), torch.float32),
    "gelu": (_gated(functional.gelu), torch.float32),
    "gelu by tanh": (_gated(lambda x: functional.gelu(x, approximate="tanh")), torch.float32),
    "relu": (_gated(functional.relu), torch.float32),
    "norm": (_norm_and_layer(torch.float32), torch.float32),
    "norm in bf16": (_norm_and_layer(torch.bfloat16), torch.bfloat16),
    "a scaled sum": (_through_a_scaled_sum, torch.float32),
}


def _gradient(run: Callable[[Tensor], Tensor], x: Tensor, again: bool) -> Tensor:
    with remade() if again else nullcontext():
        loss = run(x).sin().sum()
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_same_bits(case: str) -> None:
    run, dtype = CASES[case]
    x = _drawn(ROWS, WIDTH, dtype=dtype)
    assert torch.equal(_gradient(run, x, again=True), _gradient(run, x, again=False))


@pytest.mark.parametrize("case", ["silu", "gelu", "gelu by tanh", "norm", "norm in bf16"])
def test_less_is_kept(case: str) -> None:
    run, dtype = CASES[case]
    x = _drawn(ROWS, WIDTH, dtype=dtype)
    kept = []
    for again in (False, True):

        def forward(again: bool = again) -> None:
            with remade() if again else nullcontext():
                output = run(x)
            output.view(-1)  # one more moment, at which nothing is alive but what is kept

        kept.append(run_counted(forward, torch.device("cpu")).moments[-1][1])
    assert kept[1] < 0.85 * kept[0]


def test_what_it_keeps_goes_with_the_graph() -> None:
    """A kept tensor that held its own history would stay for good."""
    x = nn.Parameter(torch.randn(ROWS, WIDTH))
    with remade():
        loss = _gated(functional.silu)(x).exp().sum()
    counted = run_counted(loss.backward, torch.device("cpu"))
    del loss
    assert counted.live_bytes <= x.nbytes  # the gradient
