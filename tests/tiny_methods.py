"""Helpers for tests of every registered method on tiny models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import tiny_architectures as tiny
from weitiao.methods import METHODS
from weitiao.methods._base import Attached, Method

ARCHITECTURES = ("llama", "qwen2", "gpt2", "opt", "gemma", "bloom")

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

every_method = pytest.mark.parametrize("name", METHODS.names())


def make(name: str) -> Method:
    method = METHODS.load(name)
    return method(**method.example)


def make_model(architecture: str) -> PreTrainedModel:
    """Return a tiny model of two blocks, as many as a method needs to differ between them."""
    return tiny.make_model(architecture, **tiny.two_blocks(architecture))


def make_config(architecture: str) -> PretrainedConfig:
    """Return the config of such a model."""
    return tiny.make_config(architecture, **tiny.two_blocks(architecture))


REFUSED = {
    **{
        (name, "gpt2"): r"Conv1D(.|\n)*lora"
        for name in METHODS.names()
        if not METHODS.load(name).on_transposed
    },
    **{
        ("llama_adapter", other): "gpt2, llama, mistral"
        for other in ("qwen2", "opt", "gemma", "bloom", "gemma3_text")
    },
}
"""The error a method raises for an architecture it does not support."""
PAIRS = [(name, a) for name in METHODS.names() for a in ARCHITECTURES if (name, a) not in REFUSED]


def chosen_pairs(turn: int) -> list[tuple[str, str]]:
    """Return every method once, with one of the architectures that it takes; each turn gives it the next one."""
    taken = {name: [a for n, a in PAIRS if n == name] for name in METHODS.names()}
    return [(name, own[(number + turn) % len(own)]) for number, (name, own) in enumerate(taken.items())]


def some_pairs(turn: int) -> pytest.MarkDecorator:
    """Parametrise a test over every method, and several times over every architecture.

    The tests of a contract take different turns, so that together they try all pairs.
    """
    return pytest.mark.parametrize(("name", "architecture"), chosen_pairs(turn))


UNMERGED = {("bitfit", "qwen2"), ("bitfit", "gemma")}
"""Pairs that cannot be merged, though the method usually can: the plain architecture has no such biases."""


def logits(model: torch.nn.Module, ids: torch.Tensor | None = None) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(tiny.ids() if ids is None else ids).logits


def own_logits(attached: Attached) -> torch.Tensor:
    """Return the logits of the text's tokens, without those of virtual tokens."""
    return logits(attached.model)[:, attached.virtual_tokens :]


def backward(attached: Attached) -> None:
    attached.model.train()
    attached.model(tiny.ids(), labels=tiny.ids()).loss.backward()


def train(attached: Attached, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(attached.trainable().values(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        backward(attached)
        optimizer.step()
