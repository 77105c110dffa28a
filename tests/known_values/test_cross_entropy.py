"""The summed cross-entropy against torch's own: values, gradients, chunk borders, and the memory it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from weitiao.data.batching.packing import make_pack
from weitiao.engine.memory.live_bytes import run_counted
from weitiao.objectives._cross_entropy import CHUNK_VALUES, cross_entropy_sum
from weitiao.objectives._outputs import Head, Outputs
from weitiao.objectives._streamed_head import ROWS_AT_ONCE, WORDS_AT_ONCE

VALUE_ROUNDING = 5e-6
WIDTH = 6
LARGE = CHUNK_VALUES // 7
"""A vocabulary of which 7 rows fill a chunk."""
NO_PACK = make_pack([])
"""What hidden states are of is nothing to a cross-entropy."""


class Made:
    """Hidden states, a matrix, targets and weights from a seed; `several` targets of the first row."""

    def __init__(
        self, rows: int, vocabulary: int, dtype: torch.dtype = torch.float32, several: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.hidden_PD = torch.randn(rows, WIDTH, generator=generator).to(dtype).requires_grad_()
        self.layer = nn.Linear(WIDTH, vocabulary, bias=False, dtype=dtype)
        self.layer.weight.data = torch.randn(vocabulary, WIDTH, generator=generator).to(dtype)
        self.rows_K = torch.cat([torch.arange(rows), torch.zeros(several, dtype=torch.long)])
        count = rows + several
        self.targets_K = torch.randint(0, vocabulary, (count,), generator=generator)
        self.weights_K = torch.rand(count, generator=generator) * 3

    def outputs(self, head: Head) -> Outputs:
        return Outputs(self.hidden_PD, head, self.rows_K, self.targets_K, self.weights_K, NO_PACK)

    def ours(self, head: Head, scale: float = 0.37) -> tuple[Tensor, Tensor | None, Tensor | None]:
        value = cross_entropy_sum(self.outputs(head))
        (scale * value).backward()
        found = value.detach(), self.hidden_PD.grad, self.layer.weight.grad
        self.hidden_PD.grad = self.layer.weight.grad = None
        return found

    def torchs(
        self, factor: float = 1.0, cap: float | None = None, scale: float = 0.37
    ) -> tuple[Tensor, ...]:
        """Plain torch in float64."""
        hidden_PD = self.hidden_PD.detach().double().requires_grad_()
        weight_VD = self.layer.weight.detach().double().requires_grad_()
        logits_PV = factor * hidden_PD @ weight_VD.T
        logits_PV = logits_PV if cap is None else cap * torch.tanh(logits_PV / cap)
        each_K = functional.cross_entropy(logits_PV[self.rows_K], self.targets_K, reduction="none")
        value = (self.weights_K * each_K).sum()
        (scale * value).backward()
        assert hidden_PD.grad is not None
        assert weight_VD.grad is not None
        return value.detach().float(), hidden_PD.grad.float(), weight_VD.grad.float()

    def one_matrix(self, factor: float = 1.0) -> Head:
        return Head(lambda x: self.layer(x) * factor, self.layer.out_features, self.layer.weight, factor)

    def unknown(self, cap: float) -> Head:
        return Head(lambda x: cap * torch.tanh(self.layer(x) / cap), self.layer.out_features)


SIZES = [(1, 2), (5, 61), (13, 1000), (7, LARGE), (15, LARGE)]
"""The last two: one whole chunk, and two with a rest of one row."""


@pytest.mark.parametrize(("rows", "vocabulary"), SIZES)
def test_value_and_gradients_are_torchs(rows: int, vocabulary: int) -> None:
    made = Made(rows, vocabulary, several=3)
    value, *gradients = made.ours(made.one_matrix())
    expected, *plain = made.torchs()
    torch.testing.assert_close(value, expected, rtol=VALUE_ROUNDING, atol=0)
    for ours, theirs in zip(gradients, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 2), (13, 1000), (8, LARGE)])
def test_a_head_of_any_other_kind_gives_the_same(rows: int, vocabulary: int) -> None:
    made = Made(rows, vocabulary, several=3)
    value, *gradients = made.ours(made.unknown(cap=3.0))
    expected, *plain = made.torchs(cap=3.0)
    torch.testing.assert_close(value, expected, rtol=VALUE_ROUNDING, atol=0)
    for ours, theirs in zip(gradients, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)  # a sum of as many terms as words


def test_a_factor_on_the_logits_counts() -> None:
    made = Made(9, 61)
    value, *gradients = made.ours(made.one_matrix(factor=0.25))
    expected, *plain = made.torchs(factor=0.25)
    torch.testing.assert_close(value, expected, rtol=VALUE_ROUNDING, atol=0)
    for ours, theirs in zip(gradients, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-5)


STREAMED = [
    (1, 2),
    (5, 61),
    (13, 1000),
    (3, WORDS_AT_ONCE),
    (3, WORDS_AT_ONCE + 1),
    (9, 3 * WORDS_AT_ONCE - 1),
]


@pytest.mark.parametrize("factor", [1.0, 0.25])
@pytest.mark.parametrize(
    ("rows", "vocabulary"),
    [*STREAMED, (ROWS_AT_ONCE, 50), (ROWS_AT_ONCE + 1, 50), (2 * ROWS_AT_ONCE + 3, 50)],
)
def test_a_frozen_head_read_in_blocks_is_torchs(rows: int, vocabulary: int, factor: float) -> None:
    made = Made(rows, vocabulary, several=3)
    # The largest logit lies now in this block, now in that.
    made.hidden_PD.data *= torch.linspace(1, 30, rows)[:, None]
    made.layer.weight.requires_grad_(False)
    value, hidden, _ = made.ours(made.one_matrix(factor))
    made.layer.weight.requires_grad_()
    expected, plain, _ = made.torchs(factor)
    torch.testing.assert_close(value, expected, rtol=VALUE_ROUNDING, atol=0)
    torch.testing.assert_close(hidden, plain, rtol=2e-5, atol=2e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            cross_entropy_sum(made.outputs(made.one_matrix(factor))), value, rtol=1e-6, atol=0
        )


def test_a_frozen_head_and_extreme_logits() -> None:
    made = Made(2, 3)
    made.hidden_PD.data = torch.tensor([[1e4] + [0.0] * 5, [3e37] + [0.0] * 5])
    made.layer.weight.data = torch.tensor([[1.0] + [0.0] * 5, [-1.0] + [0.0] * 5, [0.0] * 6])
    expected, plain, _ = made.torchs()
    made.layer.weight.requires_grad_(False)
    value, hidden, _ = made.ours(made.one_matrix())
    torch.testing.assert_close((value, hidden), (expected, plain))


@pytest.mark.parametrize("frozen", ["head", "hidden", "both"])
def test_what_does_not_train_gets_no_gradient(frozen: str) -> None:
    made = Made(9, 61)
    made.layer.weight.requires_grad_(frozen == "hidden")
    made.hidden_PD.requires_grad_(frozen == "head")
    expected, hidden, weight = made.torchs()
    if frozen == "both":
        torch.testing.assert_close(cross_entropy_sum(made.outputs(made.one_matrix())), expected)
        return
    _, ours_hidden, ours_weight = made.ours(made.one_matrix())
    assert (ours_hidden is None) == (frozen == "hidden")
    assert (ours_weight is None) == (frozen == "head")
    ours, theirs = (ours_weight, weight) if ours_hidden is None else (ours_hidden, hidden)
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-5)


def test_in_bf16_the_loss_is_that_of_its_logits_and_the_gradient_rounded_once() -> None:
    made = Made(13, 1000, torch.bfloat16)
    with torch.no_grad():
        logits_PV = made.layer(made.hidden_PD).double()
    each_K = functional.cross_entropy(logits_PV[made.rows_K], made.targets_K, reduction="none")
    value, hidden, weight = made.ours(made.one_matrix())
    torch.testing.assert_close(value, (made.weights_K * each_K).sum().float(), rtol=VALUE_ROUNDING, atol=0)
    _, plain_hidden, plain_weight = made.torchs()
    assert hidden is not None
    assert weight is not None
    torch.testing.assert_close(hidden.float(), plain_hidden, rtol=0.03, atol=0.03)
    torch.testing.assert_close(weight.float(), plain_weight, rtol=0.03, atol=0.03)


def test_no_trained_position_gives_zero() -> None:
    made = Made(0, 61)
    value, hidden, weight = made.ours(made.one_matrix())
    assert hidden is not None
    assert weight is not None
    assert (float(value), tuple(hidden.shape), float(weight.abs().sum())) == (0.0, (0, WIDTH), 0.0)


def test_extreme_logits_stay_finite() -> None:
    made = Made(2, 3)
    made.hidden_PD.data = torch.tensor([[1e4] + [0.0] * 5, [3e37] + [0.0] * 5])
    made.layer.weight.data = torch.tensor([[1.0] + [0.0] * 5, [-1.0] + [0.0] * 5, [0.0] * 6])
    value, *gradients = made.ours(made.one_matrix())
    expected, *plain = made.torchs()
    torch.testing.assert_close((value, *gradients), (expected, *plain))


def logits_alive(of: Callable[[Outputs], Tensor], outputs: Outputs) -> float:
    """Return the most bytes that a loss and its backward pass keep alive, in tensors of logits (P, V)."""
    counted = run_counted(lambda: of(outputs).backward(), torch.device("cpu"))
    return max(live for _, live in counted.moments) / (len(outputs.rows_K) * outputs.head.vocabulary * 4)


def test_the_logits_of_a_pack_are_never_there_at_once() -> None:
    rows, vocabulary = 1200, 152000
    layer = nn.Linear(8, vocabulary, bias=False).requires_grad_(False)
    hidden, targets = torch.randn(rows, 8, requires_grad=True), torch.zeros(rows, dtype=torch.long)

    def outputs(head: Head, count: int = rows) -> Outputs:
        return Outputs(hidden[:count], head, torch.arange(count), targets[:count], torch.ones(count), NO_PACK)

    one_matrix = Head(layer, vocabulary, layer.weight)
    assert 0 < logits_alive(cross_entropy_sum, outputs(one_matrix)) < 0.05
    assert 0 < logits_alive(cross_entropy_sum, outputs(Head(lambda x: layer(x) * 1, vocabulary))) < 0.3
    plain = logits_alive(
        lambda given: functional.cross_entropy(layer(given.hidden_PD), given.targets_K),
        outputs(one_matrix, 60),
    )
    assert plain == pytest.approx(3, rel=1e-3), "the measure sees every tensor of logits"
