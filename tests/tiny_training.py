"""Tiny trainings for tests, built by the same code as real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

import tiny_architectures as tiny
from remembered import forward_of, growth_of
from weitiao.core.events import Event, EventLog, Listener
from weitiao.core.run_folder import RunFolder
from weitiao.data.dataset import Prepared
from weitiao.data.example import Example, TokenSequence
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.engine.loop import Training
from weitiao.models.fingerprint import fingerprint as fingerprint_of_base
from weitiao.recipe.build import attach, build_training, measured_plan, precision_for
from weitiao.recipe.recipe import parse_recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from weitiao.data.gate.summary import Summary
    from weitiao.data.templates.template import Template
    from weitiao.objectives._base import Objective


def make_examples(
    count: int, seed: int = 0, shortest: int = 4, longest: int = 20, draws: float = 1.0
) -> list[Example]:
    """Return examples of random ids whose second half is trained; their places are rows.json:1, :2, ..."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for number in range(1, count + 1):
        length = int(torch.randint(shortest, longest + 1, (1,), generator=generator))
        ids = torch.randint(3, tiny.VOCABULARY, (length,), generator=generator).tolist()
        weights = tuple(float(position >= length // 2) for position in range(length))
        examples.append(Example.of(tuple(ids), weights, f"rows.json:{number}", draws))
    return examples


def make_ids(length: int, seed: int = 0) -> tuple[int, ...]:
    """Return `length` random ids."""
    return sequence_of(make_examples(1, seed, length, length)[0]).ids


def ends_in(token: int, example: Example) -> Example:
    """Return the example with `token` as its last token."""
    one = sequence_of(example)
    return replace(example, sequences=(replace(one, ids=(*one.ids[:-1], token)),))


def behind(header: Example, row: Example) -> Example:
    """Return a row with an untrained header in front."""
    first, own = sequence_of(header), sequence_of(row)
    whole = TokenSequence((*first.ids, *own.ids), (*[0.0] * len(first.ids), *own.weights))
    return replace(row, sequences=(whole,))


def sequence_of(example: Example) -> TokenSequence:
    """Return the only sequence of an example."""
    (sequence,) = example.sequences
    return sequence


LINEAR: dict[str, Any] = {"epochs": 3, "scheduler": "linear", "warmup_ratio": 0.0}
"""No warmup, so every step, the first included, changes the weights."""


def make_training(
    folder: Path,
    examples: Sequence[Example],
    *,
    method: str | dict[str, Any] = "lora",
    objective: str | Objective = "sft",
    held_out: Sequence[Example] = (),
    model: PreTrainedModel | None = None,
    listeners: tuple[Listener, ...] = (),
    layers: int = 2,
    **train: Any,  # noqa: ANN401  (settings of the train block)
) -> Training:
    """Return a training of `model`, else of a tiny Llama, for three epochs; checkpoints go to `folder`/checkpoints."""
    recipe = parse_recipe(
        {
            "model": "tiny",
            "data": "rows.json",
            "method": method,
            "objective": objective,
            "train": {**LINEAR, **train},
            "out": folder,
        }
    )
    base = model or tiny.make_model("llama", num_hidden_layers=layers)
    data = Prepared(
        list(examples),
        list(held_out),
        [],
        cast("Template", None),
        cast("Summary", None),
        str(hash((*examples, None, *held_out))),
    )
    log = EventLog(None, listeners)
    base_print, precision = fingerprint_of_base(base), precision_for(recipe.model, base)
    attached = attach(recipe, base, data, log)
    forward = forward_of(attached, precision, log)
    plan_of = partial(measured_plan, measure=growth_of)
    return build_training(recipe, RunFolder(folder), attached, data, forward, base_print, log, plan_of)


def weights_of(training: Training) -> dict[str, torch.Tensor]:
    """Return copies of the trained parameters."""
    return {name: p.detach().clone() for name, p in training.stepper.parameters.items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest absolute difference between two sets of tensors."""
    assert one.keys() == other.keys()
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Return whether two sets of tensors are bitwise equal."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def last_state(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the newest checkpoint's tensor files, and its state without the seconds spent."""
    newest = list_checkpoints(folder / "checkpoints")[0]
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    del state["progress"]["seconds"]
    return {path.name: path.read_bytes() for path in sorted(newest.glob("*.safetensors"))}, state


class Events(list[Event]):
    """An event listener that stores all events."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: str) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self if event["event"] == kind]
