"""How a step is cut, ordered or recomputed changes no result: only its tokens and their weights do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_architectures as tiny
from tiny_training import equal, largest_difference, make_examples, make_training, weights_of
from weitiao.core.errors import NotFiniteError, ResourceError
from weitiao.data.batching.packing import cut_into_packs
from weitiao.data.example import Example
from weitiao.engine.loop import Training
from weitiao.objectives.sft import SupervisedFineTuning

STEPS = 2
EXAMPLES = make_examples(24, seed=3, longest=24)
TOKENS_OF_A_STEP = 8 * 24


def trained(training: Training, reverse: bool = False) -> dict[str, torch.Tensor]:
    """Return the weights after two optimizer steps."""
    with training.stepper.forward.attention():
        for step in range(STEPS):
            batch = training.plan.batch(step)
            training.stepper.apply(batch[::-1] if reverse else batch, step)
    return weights_of(training)


def make(folder: Path, architecture: str = "llama", **changes: Any) -> Training:  # noqa: ANN401
    # A large eps keeps Adam from blowing rounding up where a gradient is nearly zero: 1e-8 / (1e-8 + eps).
    settings = {"lr": 1e-2, "eps": 1e-3, "batch_size": 8, "pack_tokens": TOKENS_OF_A_STEP, **changes}
    return make_training(
        folder, EXAMPLES, model=tiny.make_model(architecture, num_hidden_layers=2), **settings
    )


@pytest.mark.parametrize(
    ("architecture", "method"), [("llama", "lora"), ("llama", "full"), ("gpt2", "full"), ("bloom", "lora")]
)
def test_one_two_or_eight_packs(architecture: str, method: str, tmp_path: Path) -> None:
    whole = trained(make(tmp_path, architecture, method=method))
    for pack_tokens, most in ((TOKENS_OF_A_STEP // 2, 4), (1, 8)):
        packs = [len(cut_into_packs(EXAMPLES[s : s + 8], pack_tokens)) for s in (0, 8, 16)]
        assert 1 < max(packs) <= most
        cut = trained(make(tmp_path, architecture, method=method, pack_tokens=pack_tokens))
        assert largest_difference(cut, whole) < 1e-6


def test_adam_with_its_usual_eps(tmp_path: Path) -> None:
    """With eps 1e-8 Adam divides rounding by itself where a gradient is nearly zero: 1e-3 of the moves made."""
    start = weights_of(make(tmp_path))
    whole = trained(make(tmp_path, eps=1e-8))
    cut = trained(make(tmp_path, eps=1e-8, pack_tokens=1))
    assert largest_difference(cut, whole) < 1e-3 * largest_difference(whole, start)


@pytest.mark.parametrize("pack_tokens", [TOKENS_OF_A_STEP, 1])
def test_activation_checkpointing(pack_tokens: int, tmp_path: Path) -> None:
    plain = trained(make(tmp_path))
    recomputed = trained(make(tmp_path, gradient_checkpointing=True, pack_tokens=pack_tokens))
    assert largest_difference(recomputed, plain) < 1e-6


def test_activation_checkpointing_recomputes_the_same_dropout(tmp_path: Path) -> None:
    method = {"name": "lora", "r": 4, "dropout": 0.5}
    plain = trained(make(tmp_path, method=method))
    recomputed = trained(make(tmp_path, method=method, gradient_checkpointing=True))
    assert largest_difference(recomputed, plain) < 1e-6
    assert largest_difference(plain, trained(make(tmp_path, method={"name": "lora", "r": 4}))) > 1e-4


def test_order_inside_a_step(tmp_path: Path) -> None:
    assert largest_difference(trained(make(tmp_path), reverse=True), trained(make(tmp_path))) < 1e-6


def test_weights_of_tokens_count_as_they_are(tmp_path: Path) -> None:
    """Twice the weight on every token changes nothing; on half of the examples it does."""
    double = [
        Example.of(one.ids, tuple(2 * weight for weight in one.weights), example.place)
        for example in EXAMPLES
        for one in example.sequences
    ]
    plain, twice = (
        trained(make_training(tmp_path, rows, lr=1e-2, eps=1e-3, batch_size=8)) for rows in (EXAMPLES, double)
    )
    assert largest_difference(plain, twice) < 1e-6
    one = trained(make_training(tmp_path, [*double[:12], *EXAMPLES[12:]], lr=1e-2, eps=1e-3, batch_size=8))
    assert largest_difference(plain, one) > 1e-5


class TooLarge(SupervisedFineTuning):
    """An objective that runs out of memory above some trained tokens, once or always."""

    most: int
    always: bool = False

    def loss(self, outputs: Any, reference: Any = None) -> Any:  # noqa: ANN401
        if len(outputs.targets_K) > self.most and (self.always or not FAILED):
            FAILED.append(len(outputs.targets_K))
            raise torch.OutOfMemoryError("made up by a test")
        return super().loss(outputs, reference)


FAILED: list[int] = []


@pytest.fixture(autouse=True)
def no_failure_yet() -> None:
    FAILED.clear()


def test_too_little_memory_redoes_the_step_with_half_the_packs(tmp_path: Path) -> None:
    method = {"name": "lora", "r": 4, "dropout": 0.2}
    training = make(tmp_path, method=method)
    training.stepper.objective = TooLarge(most=30, always=True)
    redone = trained(training)
    budget = training.stepper.pack_tokens
    assert FAILED
    assert budget in (TOKENS_OF_A_STEP // 2, TOKENS_OF_A_STEP // 4)
    assert equal(redone, trained(make(tmp_path, method=method, pack_tokens=budget)))


def test_memory_that_fails_in_the_second_pack_leaves_no_half_gradient(tmp_path: Path) -> None:
    training = make(tmp_path, pack_tokens=TOKENS_OF_A_STEP // 4)
    last = cut_into_packs(training.plan.batch(0), TOKENS_OF_A_STEP // 4)[-1]
    first = cut_into_packs(training.plan.batch(0), TOKENS_OF_A_STEP // 4)[0]
    # The packs are ordered by their longest example: the one that fails is not the first.
    assert len(last.targets_K) != len(first.targets_K)
    fails = len(last.targets_K)

    class LastFails(SupervisedFineTuning):
        def loss(self, outputs: Any, reference: Any = None) -> Any:  # noqa: ANN401
            if len(outputs.targets_K) == fails and not FAILED:
                FAILED.append(fails)
                raise torch.OutOfMemoryError("made up by a test")
            return super().loss(outputs, reference)

    training.stepper.objective = LastFails()
    redone = trained(training)
    assert FAILED
    assert equal(redone, trained(make(tmp_path, pack_tokens=TOKENS_OF_A_STEP // 8)))


def test_memory_too_little_for_one_row_is_said_with_its_place(tmp_path: Path) -> None:
    training = make(tmp_path)
    before = weights_of(training)
    training.stepper.objective = TooLarge(most=0, always=True)
    with pytest.raises(ResourceError) as caught:
        trained(training)
    assert "rows.json:" in str(caught.value)
    assert "gradient_checkpointing" in str(caught.value)
    assert equal(weights_of(training), before)


def test_a_step_with_nothing_to_train_beside_rows_that_train(tmp_path: Path) -> None:
    """A row without trained tokens neither counts nor stops the search for the row that is not finite."""
    silent = Example.of((5, 6, 7), (0.0, 0.0, 0.0), "rows.json:99")
    rows = EXAMPLES[:7]
    with_it = make_training(tmp_path, [*rows, silent], lr=1e-2, eps=1e-3, batch_size=8)
    without = make_training(tmp_path, rows, lr=1e-2, eps=1e-3, batch_size=8)
    for training in (with_it, without):
        with training.stepper.forward.attention():
            training.stepper.apply(training.plan.batch(0), 0)
    assert largest_difference(weights_of(with_it), weights_of(without)) < 1e-6

    class Never(SupervisedFineTuning):
        def loss(self, outputs: Any, reference: Any = None) -> Any:  # noqa: ANN401
            loss = super().loss(outputs, reference)
            return type(loss)(loss.sum * torch.nan)

    with_it.stepper.objective = Never()
    with pytest.raises(NotFiniteError) as caught, with_it.stepper.forward.attention():
        with_it.stepper.apply(with_it.plan.batch(0), 0)
    assert "rows.json:99" not in str(caught.value)


def test_a_step_that_trains_nothing_changes_nothing(tmp_path: Path) -> None:
    """Such rows are an error of the data, but one that may be accepted (data.accept=lengths)."""
    silent = [Example.of((5, 6, 7), (9.0, 0.0, 0.0), f"rows.json:{n}") for n in (1, 2)]
    training = make_training(tmp_path, silent, method="adalora", batch_size=2, steps=9, weight_decay=0.1)
    before = weights_of(training)
    with training.stepper.forward.attention():
        result = training.stepper.apply(training.plan.batch(0), 0)
    assert (result.loss, result.grad_norm, result.tokens) == (0.0, 0.0, 6)
    assert equal(weights_of(training), before)
    assert not training.stepper.optimizer.state


def test_tokens_of_a_step_count_shared_and_untrained_ones_in_full(tmp_path: Path) -> None:
    trunk = tuple(range(3, 23))
    rows = [Example.of((*trunk, n, n), (0.0,) * 20 + (1.0, 1.0), f"rows.json:{n}") for n in (30, 31)]
    silent = Example.of((5, 6, 7), (0.0,) * 3, "rows.json:99")
    training = make_training(tmp_path, [*rows, silent], batch_size=3)
    with training.stepper.forward.attention():
        result = training.stepper.apply(training.plan.batch(0), 0)
    packs = training.stepper.forward.cut([*rows, silent], training.stepper.pack_tokens)
    assert sum(len(pack.ids_T) for pack in packs) == 24
    assert result.tokens == 47
