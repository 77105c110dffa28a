"""The summed cross-entropy against torch's own: values, gradients, chunk borders, and the memory it takes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from weitiao.objectives._cross_entropy import CHUNK_VALUES, cross_entropy_sum

VALUE_ROUNDING = 5e-6
LARGE = CHUNK_VALUES // 7
"""A vocabulary of which 7 rows fill a chunk."""


def made(rows: int, vocabulary: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(rows, vocabulary, generator=generator)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    return logits.to(dtype), targets, torch.rand(rows, generator=generator) * 3


def both_ways(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, scale: float
) -> tuple[torch.Tensor, ...]:
    ours = logits.clone().requires_grad_()
    value = cross_entropy_sum(ours * 1.0, targets, weights)  # the backward pass overwrites a product's result
    (scale * value).backward()
    plain = logits.double().requires_grad_()
    expected = (weights * functional.cross_entropy(plain, targets, reduction="none")).sum()
    (scale * expected).backward()
    assert ours.grad is not None
    assert plain.grad is not None
    return value.detach(), expected.detach().float(), ours.grad, plain.grad.float()


@pytest.mark.parametrize(
    ("rows", "vocabulary"), [(1, 2), (5, 61), (13, 1000), (7, LARGE), (8, LARGE), (15, LARGE)]
)
def test_value_and_gradient_are_torchs(rows: int, vocabulary: int) -> None:
    value, expected, gradient, plain = both_ways(*made(rows, vocabulary, torch.float32), scale=0.37)
    torch.testing.assert_close(value, expected, rtol=VALUE_ROUNDING, atol=0)
    torch.testing.assert_close(gradient, plain, rtol=1e-5, atol=1e-6)


def test_a_row_may_have_several_targets() -> None:
    """As before a branch of a tree: the row's loss for each of them, its gradients added up."""
    logits, targets, weights = made(9, 61, torch.float32)
    rows = torch.tensor([0, 0, 1, 4, 4, 4, 3, 2, 4])
    few, repeated = logits[:5].clone().requires_grad_(), logits[:5].clone().requires_grad_()
    value = cross_entropy_sum(few * 1.0, targets, weights, rows)
    expected = (weights * functional.cross_entropy(repeated[rows], targets, reduction="none")).sum()
    (0.37 * value).backward()
    (0.37 * expected).backward()
    torch.testing.assert_close(value, expected, rtol=VALUE_ROUNDING, atol=0)
    torch.testing.assert_close(few.grad, repeated.grad, rtol=1e-5, atol=1e-6)


def test_in_bf16_the_loss_is_exact_and_the_gradient_rounded_once() -> None:
    value, expected, gradient, plain = both_ways(*made(13, 1000, torch.bfloat16), scale=0.37)
    torch.testing.assert_close(value, expected, rtol=VALUE_ROUNDING, atol=0)
    torch.testing.assert_close(gradient.float(), plain, rtol=2**-7, atol=1e-4)


def test_no_trained_position_gives_zero() -> None:
    logits = torch.zeros(0, 61, requires_grad=True)
    value = cross_entropy_sum(logits * 1.0, torch.zeros(0, dtype=torch.long), torch.zeros(0))
    value.backward()
    assert (float(value.detach()), tuple(logits.grad.shape)) == (0.0, (0, 61))  # type: ignore[union-attr]


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-3e38, 3e38, 0.0]])
    value, expected, gradient, plain = both_ways(logits, torch.tensor([1, 1]), torch.ones(2), 1.0)
    torch.testing.assert_close((value, gradient), (expected, plain))


def test_a_second_backward_is_refused_and_not_wrong() -> None:
    logits, targets, weights = made(3, 11, torch.float32)
    value = cross_entropy_sum(logits.requires_grad_() * 1.0, targets, weights)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_logits_that_their_maker_needs_are_not_overwritten_in_silence() -> None:
    logits, targets, weights = made(3, 11, torch.float32)
    value = cross_entropy_sum(logits.requires_grad_().exp(), targets, weights)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_no_memory_of_the_logits_size_is_added() -> None:
    """Peak resident memory grows by less than half of one logits tensor (plain torch adds two)."""
    script = """
import resource, torch
from weitiao.objectives._cross_entropy import cross_entropy_sum
torch.set_num_threads(1)
weight = torch.zeros(1, requires_grad=True)
class Stop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, logits):
        return logits.view_as(logits)
    @staticmethod
    def backward(ctx, gradient):
        return weight.new_zeros(1), None
logits = Stop.apply(weight, torch.randn(1500, 32000))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
cross_entropy_sum(logits, torch.zeros(1500, dtype=torch.long), torch.ones(1500)).backward()
print((peak() - before) / (logits.numel() * 4))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5
