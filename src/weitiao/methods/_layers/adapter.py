"""Bottleneck adapters as PEFT layers: a small two-layer network on the output of each chosen module.

Shapes: d width of the model, m size of the bottleneck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import ModelError, Problem
from .base import AddingLayer, OwnConfig, OwnTuner

ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


@dataclass
class AdapterConfig(OwnConfig):
    """PEFT's config of a bottleneck adapter."""

    kind: ClassVar[str] = "WEITIAO_ADAPTER"
    width: int = 0
    """The model's width d."""
    size: int = 0
    """The bottleneck's size m."""
    activation: str = "gelu"
    scaling: float = 1.0
    up_std: float = 0.0
    parallel: bool = False


class AdapterLayer(AddingLayer):
    """A base module with adapters on its output; parallel adapters read its input instead.

    With h the adapter's input and y the module's output, both (..., d), it returns
    y + s (W_up f(W_down h + b_down) + b_up), with W_down (m, d) and W_up (d, m).
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(self, base_layer: nn.Module) -> None:
        """Wrap a module."""
        super().__init__(base_layer)
        self.bottleneck_down, self.bottleneck_up = nn.ModuleDict(), nn.ModuleDict()
        self.configs: dict[str, AdapterConfig] = {}

    def add(self, adapter: str, config: AdapterConfig) -> None:
        """Create W_down with nn.Linear's initialisation, W_up near zero, and zero biases."""
        down = nn.Linear(config.width, config.size, device=self.device, dtype=torch.float32)
        up = nn.Linear(config.size, config.width, device=self.device, dtype=torch.float32)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.normal_(up.weight, std=config.up_std)
        nn.init.zeros_(down.bias)
        nn.init.zeros_(up.bias)
        self.bottleneck_down[adapter], self.bottleneck_up[adapter] = down, up
        self.configs[adapter] = config

    def adapted(self, adapter: str, x: Tensor, output: Tensor) -> Tensor:
        """Return the module's output plus the adapter's."""
        down, up, config = self.bottleneck_down[adapter], self.bottleneck_up[adapter], self.configs[adapter]
        h = (x if config.parallel else output).float()
        change: Tensor = config.scaling * up(ACTIVATIONS[config.activation](down(h)))
        return output + change.to(output.dtype)

    def fold(self, adapter: str, sign: int) -> None:
        """Raise ModelError: an adapter has no merged form."""
        raise ModelError(_no_merged_form())


class AdapterTuner(OwnTuner):
    """Puts bottleneck adapters on a model."""

    prefix = "bottleneck_"
    config_class = AdapterConfig
    tuner_layer_cls = AdapterLayer

    def require_mergeable(self) -> None:
        """Raise ModelError: an adapter has no merged form."""
        raise ModelError(_no_merged_form())


def _no_merged_form() -> Problem:
    return Problem(
        "a bottleneck adapter is a non-linear network, so it cannot be merged into the base's weights",
        "method: adapter",
        "the adapter, unmerged",
        "use the adapter as it is, or train with method=lora to merge",
    )
