"""Log-probabilities of targets and their gradients are those of torch's log_softmax, for every kind of head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from weitiao.data.batching.packing import Pack, make_pack
from weitiao.data.example import Example, TokenSequence
from weitiao.objectives import _cross_entropy
from weitiao.objectives._log_probs import sequence_log_probs, target_log_probs
from weitiao.objectives._outputs import Head, Outputs

VOCABULARY, WIDTH = 50, 12


def pair() -> Pack:
    """Return two sequences that share their prompt and the first two tokens of their answers."""
    prompt, alike = tuple(range(3, 12)), (20, 21)
    sequences = tuple(
        TokenSequence(prompt + alike + own, (0.0,) * 9 + (1.0, 2.0) + (0.5,) * len(own))
        for own in ((30, 31, 32), (40, 41))
    )
    return make_pack([Example(sequences, "x:1")])


def head_of(weight_VD: Tensor, kind: str) -> Head:
    match kind:
        case "one matrix":
            return Head(lambda hidden: hidden @ weight_VD.T, VOCABULARY, weight_VD)
        case "a factor":
            return Head(lambda hidden: 0.5 * hidden @ weight_VD.T, VOCABULARY, weight_VD, 0.5)
        case _:
            return Head(lambda hidden: 3 * torch.tanh(hidden @ weight_VD.T / 3), VOCABULARY)


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("kind", ["one matrix", "a factor", "capped"])
def test_values_and_gradients(
    kind: str, rows_at_once: int, trains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cross_entropy, "CHUNK_VALUES", rows_at_once * VOCABULARY)
    torch.manual_seed(0)
    pack = pair()
    weight_VD = nn.Parameter(torch.randn(VOCABULARY, WIDTH), requires_grad=trains)
    hidden_PD = torch.randn(len(pack.kept_P), WIDTH, requires_grad=True)
    head = head_of(weight_VD, kind)
    rows_K, targets_K = torch.from_numpy(pack.rows_K), torch.from_numpy(pack.targets_K)
    outputs = Outputs(hidden_PD, head, rows_K, targets_K, torch.from_numpy(pack.weights_K), pack)
    wanted_K = head.project(hidden_PD).log_softmax(-1)[rows_K, targets_K]
    signed_K = torch.randn(len(targets_K))  # both signs, in one row too
    inputs = [hidden_PD, weight_VD] if trains else [hidden_PD]
    wanted = torch.autograd.grad((wanted_K * signed_K).sum(), inputs)
    found_K = target_log_probs(outputs)
    found = torch.autograd.grad((found_K * signed_K).sum(), inputs)
    assert torch.allclose(found_K, wanted_K, atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, wanted, strict=True))


def test_a_shared_target_counts_in_each_sequence() -> None:
    pack = pair()
    (first, second), shared = pack.examples[0].sequences, (20, 21)
    assert set(shared) <= set(pack.targets_K.tolist()) and len(pack.targets_K) == 7
    hidden_PD = torch.randn(len(pack.kept_P), WIDTH, generator=torch.Generator().manual_seed(1))
    weight_VD = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(2))
    outputs = Outputs(
        hidden_PD,
        head_of(weight_VD, "one matrix"),
        torch.from_numpy(pack.rows_K),
        torch.from_numpy(pack.targets_K),
        torch.from_numpy(pack.weights_K),
        pack,
    )
    by_target = dict(zip(pack.targets_K.tolist(), target_log_probs(outputs).tolist(), strict=True))
    wanted = [
        sum(weight * by_target[token] for token, weight in zip(one.ids, one.weights, strict=True) if weight)
        for one in (first, second)
    ]
    assert sequence_log_probs(outputs).tolist() == pytest.approx(wanted, abs=1e-5)


def test_weights_of_both_signs_that_cancel_leave_no_gradient() -> None:
    pack = pair()
    hidden_PD = torch.randn(len(pack.kept_P), WIDTH, requires_grad=True)
    weight_VD = nn.Parameter(torch.randn(VOCABULARY, WIDTH))
    rows_K, targets_K = torch.from_numpy(pack.rows_K), torch.from_numpy(pack.targets_K)
    outputs = Outputs(
        hidden_PD, head_of(weight_VD, "one matrix"), rows_K, targets_K, torch.zeros(len(rows_K)), pack
    )
    (gradient,) = torch.autograd.grad((target_log_probs(outputs) * 0).sum(), [hidden_PD])
    assert torch.equal(gradient, torch.zeros_like(gradient))
