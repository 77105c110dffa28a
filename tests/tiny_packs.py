"""Tiny models that do or do not support packing, and reference losses by transformers and torch alone."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

import tiny_architectures as tiny
from tiny_training import sequence_of
from weitiao.data.example import Example

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [3.0] * 4,
    "original_max_position_embeddings": 12,
}

MODELS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "llama": ("llama", {}, True),
    "qwen2": ("qwen2", {}, True),
    "qwen3": ("qwen3", {}, True),
    "gpt2": ("gpt2", {}, True),
    "opt": ("opt", {}, True),
    "gemma": ("gemma", {}, True),
    "phi3": ("phi3", {}, True),
    "mistral, window shorter than a sample": ("mistral", {"sliding_window": 5}, True),
    "gemma2, window and capped scores": (
        "gemma2",
        {"sliding_window": 5, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        False,
    ),
    "gemma2, capped scores hardly felt": ("gemma2", {}, False),
    "phi3, positions scaled by the longest": (
        "phi3",
        {"rope_parameters": LONG_ROPE, "original_max_position_embeddings": 12},
        False,
    ),
    "bloom": ("bloom", {}, False),
}
"""Architecture, changes to its config, and whether it supports packing."""


def make(label: str, layers: int = 2) -> PreTrainedModel:
    architecture, changes, _ = MODELS[label]
    return tiny.make_model(architecture, num_hidden_layers=layers, **changes)


def plain_loss_sum(model: torch.nn.Module, example: Example) -> torch.Tensor:
    """Return the summed loss of one example, computed by transformers and torch alone."""
    one = sequence_of(example)
    logits_TV = model(input_ids=torch.tensor([one.ids]), use_cache=False).logits[0].float()
    losses_T = functional.cross_entropy(logits_TV[:-1], torch.tensor(one.ids[1:]), reduction="none")
    return (losses_T * torch.tensor(one.weights[1:])).sum()


def gradients(parameters: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    for parameter in parameters.values():
        parameter.grad = None
    return found
