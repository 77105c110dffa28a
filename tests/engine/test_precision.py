"""Half precision on the CPU: it trains, an overflow halves the scale and redoes the step; held-out loss by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import tiny_architectures as tiny
from tiny import make_llama
from tiny_training import (
    Events,
    equal,
    largest_difference,
    last_state,
    make_examples,
    make_training,
    sequence_of,
    weights_of,
)
from weitiao.core.errors import NotFiniteError
from weitiao.engine.checkpoint import newest_whole
from weitiao.engine.loop import Training
from weitiao.engine.optim.precision import Precision
from weitiao.engine.probe import choose_forward, one_by_one, probe, probe_examples
from weitiao.engine.step import LARGEST_SCALE, STEPS_TO_DOUBLE_SCALE, LossScale
from weitiao.evaluation.held_out import measure_held_out
from weitiao.objectives._base import LossSum
from weitiao.objectives._outputs import Outputs
from weitiao.objectives.sft import SupervisedFineTuning

EXAMPLES = make_examples(12, seed=4)


def make(folder: Path, dtype: torch.dtype, **changes: Any) -> Training:  # noqa: ANN401
    settings = {"steps": 3, "batch_size": 4, "lr": 1e-2, "scheduler": "constant", **changes}
    return make_training(
        folder, EXAMPLES, model=tiny.make_model("llama", num_hidden_layers=2).to(dtype), **settings
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_near_fp32(dtype: torch.dtype, tmp_path: Path) -> None:
    heard = Events(), Events()
    half = make(tmp_path / "half", dtype, eps=1e-3, listeners=heard[:1])
    whole = make(tmp_path / "whole", torch.float32, eps=1e-3, listeners=heard[1:])
    start = weights_of(whole)
    assert half.stepper.scale.value == (LARGEST_SCALE if dtype is torch.float16 else 1.0)
    half.run()
    whole.run()
    norms = [[event["grad_norm"] for event in log.of("step")] for log in heard]
    assert norms[0] == pytest.approx(norms[1], rel=0.05), (
        "the scale is no part of what is reported and clipped"
    )
    assert all(p.dtype is torch.float32 for p in half.stepper.parameters.values())
    moved = largest_difference(weights_of(whole), start)
    assert largest_difference(weights_of(half), weights_of(whole)) < 0.2 * moved


class OverflowsAbove(SupervisedFineTuning):
    """An objective whose gradient overflows where the scaled loss's factor is above `largest`."""

    largest: float

    def loss(self, outputs: Outputs, reference: torch.Tensor | None = None) -> LossSum:
        sound = super().loss(outputs, reference)
        sound.sum.register_hook(lambda factor: factor * math.inf if float(factor) > self.largest else factor)
        return sound


def test_an_overflow_halves_the_scale_and_redoes_the_step(tmp_path: Path) -> None:
    training = make(tmp_path / "a", torch.float16)
    weight = sum(example.loss_weight for example in training.plan.batch(0))
    training.stepper.objective = OverflowsAbove(largest=1000.0 / weight)
    with training.stepper.forward.attention():
        training.stepper.apply(training.plan.batch(0), 0)
    assert training.stepper.scale.value == 512.0
    expected = make(tmp_path / "b", torch.float16)
    expected.stepper.scale.value = 512.0
    with expected.stepper.forward.attention():
        expected.stepper.apply(expected.plan.batch(0), 0)
    assert equal(weights_of(training), weights_of(expected))


def test_a_scale_of_one_is_tried_before_giving_up(tmp_path: Path) -> None:
    training = make(tmp_path, torch.float16)
    weight = sum(example.loss_weight for example in training.plan.batch(0))
    training.stepper.objective = OverflowsAbove(largest=1.5 / weight)
    with training.stepper.forward.attention():
        training.stepper.apply(training.plan.batch(0), 0)
        assert training.stepper.scale.value == 1.0
        training.stepper.objective = OverflowsAbove(largest=0.0)
        with pytest.raises(NotFiniteError):
            training.stepper.apply(training.plan.batch(1), 1)


def test_the_scale_rises_again_after_many_good_steps_and_never_above_the_largest() -> None:
    scale = LossScale.for_precision(Precision(torch.float16))
    for _ in range(20):
        scale.halve()
    assert scale.value == 1.0
    for _ in range(STEPS_TO_DOUBLE_SCALE):
        scale.succeeded()
    assert scale.value == 2.0
    for _ in range(20 * STEPS_TO_DOUBLE_SCALE):
        scale.succeeded()
    assert scale.value == LARGEST_SCALE
    plain = LossScale.for_precision(Precision(None))
    for _ in range(STEPS_TO_DOUBLE_SCALE):
        plain.succeeded()
    assert plain.value == 1.0
    assert not plain.halve()


def test_the_scale_and_its_count_are_resumed(tmp_path: Path) -> None:
    def begin(folder: Path) -> Training:
        training = make(folder, torch.float16, save_every=1, steps=2)
        training.stepper.scale.value, training.stepper.scale.good_steps = 64.0, STEPS_TO_DOUBLE_SCALE - 2
        return training

    begin(tmp_path / "straight").run()
    first = begin(tmp_path / "resumed")
    first.plan.steps = 1
    first.run()
    path, _ = newest_whole(tmp_path / "resumed" / "checkpoints")
    assert path is not None
    resumed = make(tmp_path / "resumed", torch.float16, save_every=1, steps=2)
    resumed.resume(path)
    resumed.run()
    assert resumed.stepper.scale.value == 128.0
    tensors, state = last_state(tmp_path / "resumed")
    assert state["progress"] == last_state(tmp_path / "straight")[1]["progress"]
    assert tensors["optimizer.safetensors"] == last_state(tmp_path / "straight")[0]["optimizer.safetensors"]


@pytest.mark.parametrize("pack_tokens", [8, 64, 1024])
def test_the_held_out_loss_is_the_mean_over_trained_tokens(pack_tokens: int) -> None:
    model = tiny.make_model("llama")
    examples = make_examples(70, seed=9)  # more than are looked at together
    total = weight = 0.0
    with torch.no_grad():
        for example in examples:
            one = sequence_of(example)
            logits_TV = model(input_ids=torch.tensor([one.ids])).logits[0]
            losses_T = functional.cross_entropy(
                logits_TV[:-1].double(), torch.tensor(one.ids[1:]), reduction="none"
            )
            total += float((losses_T * torch.tensor(one.weights[1:])).sum())
            weight += example.trained_tokens
    forward = choose_forward(model, Precision())
    model.train()
    with forward.attention():
        measured = measure_held_out(forward, SupervisedFineTuning(), examples, pack_tokens)
    assert measured is not None
    assert measured.loss == pytest.approx(total / weight, abs=1e-6)
    assert model.training


def test_rounding_by_another_attention_is_no_leak() -> None:
    """In bf16 a pack's attention and the model's own round apart, on a GPU always; here the model's is made eager."""
    model = make_llama(hidden=128, layers=12)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.dim() == 2):
            weight.mul_(8)  # so that blocks do something and rounding adds up
    model = model.to(torch.bfloat16)
    model.set_attn_implementation("eager")
    precision = Precision(torch.bfloat16)
    forward = choose_forward(model, precision)
    assert forward.options.packs
    assert forward.options.shares
    examples = probe_examples(model, alike=True)
    packed, alone = probe(forward, examples), probe(one_by_one(model, precision), examples)
    assert float((packed - alone).abs().max()) > 0.05 * float(alone.std())


def test_a_leak_is_found_in_bf16() -> None:
    """Neighbours that are hardly felt: a tenth of a value of the row before is added to each."""
    model = make_llama(hidden=128, layers=12).to(torch.bfloat16)
    assert choose_forward(model, Precision(torch.bfloat16)).options.packs

    def leak(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        rolled = output.roll(1, dims=1)
        rolled[:, 0] = 0
        return output + 0.1 * rolled

    model.get_submodule("model.layers.3.self_attn.v_proj").register_forward_hook(leak)
    forward = choose_forward(model, Precision(torch.bfloat16))
    assert not forward.options.packs
