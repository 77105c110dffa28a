"""BitFit as a PEFT layer: a vector added to the output of each chosen layer, b' = b + d."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import ModelError, Problem
from ...models.load import weightless_like
from .base import AddingLayer, OwnConfig, OwnTuner

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BIAS_SWITCHES = ("attention_bias", "mlp_bias")
"""Config keys that give linear layers biases."""


@dataclass
class BitfitConfig(OwnConfig):
    """PEFT's config of BitFit."""

    kind: ClassVar[str] = "WEITIAO_BITFIT"
    add_bias: bool = False
    """Whether layers without a bias get one."""


class BitfitLayer(AddingLayer):
    """A linear or normalisation layer with d, of shape (out,), added to its bias; d starts at zero."""

    adapter_layer_names = ("bitfit_bias",)

    def __init__(self, base_layer: nn.Module) -> None:
        """Wrap a layer, with or without a bias."""
        super().__init__(base_layer)
        self.bitfit_bias = nn.ParameterDict()

    def add(self, adapter: str, config: BitfitConfig) -> None:
        """Create d."""
        base = self.get_base_layer()
        size = base.out_features if base.bias is None else base.bias.shape[0]
        self.bitfit_bias[adapter] = nn.Parameter(torch.zeros(size, dtype=torch.float32, device=self.device))

    def adapted(self, adapter: str, x: Tensor, output: Tensor) -> Tensor:
        """Return the output plus d."""
        change: Tensor = self.bitfit_bias[adapter].to(output.dtype)
        return output + change

    def fold(self, adapter: str, sign: int) -> None:
        """Add d to the bias; a missing bias is created."""
        base, change = self.get_base_layer(), sign * self.bitfit_bias[adapter].detach()
        if base.bias is None:
            dtype = base.weight.dtype if base.weight.is_floating_point() else change.dtype
            base.bias = nn.Parameter(change.to(dtype), requires_grad=False)
        else:
            base.bias.data = (base.bias.data + change).to(base.bias.dtype)


class BitfitTuner(OwnTuner):
    """Puts BitFit on a model."""

    prefix = "bitfit_"
    config_class = BitfitConfig
    tuner_layer_cls = BitfitLayer

    def require_mergeable(self) -> None:
        """Raise ModelError if the architecture cannot hold the biases that were added."""
        self._merged_config()

    def _merged_config(self) -> PretrainedConfig:
        """Return the merged model's config, in which the architecture's bias switches match the biases it has."""
        added = self._added()
        if not added:
            return self.model.config
        wanted = {
            _plain_name(name) for name, _ in self.model.named_parameters() if "bitfit_bias" not in name
        } | added
        switches = [name for name in BIAS_SWITCHES if name in self.model.config.to_dict()]
        for values in product((False, True), repeat=len(switches)):
            config = _switched(self.model.config, dict(zip(switches, values, strict=True)))
            if {name for name, _ in weightless_like(self.model, config).named_parameters()} == wanted:
                return config
        raise ModelError(
            Problem(
                "biases were added to layers that have none in this architecture, so no plain model can hold them",
                f"{type(self.model).__name__}, {', '.join(sorted(added)[:3])}",
                "the adapter, unmerged, or targets whose biases the architecture can switch on"
                + (f" ({', '.join(switches)})" if switches else ""),
            )
        )

    def _added(self) -> set[str]:
        """Return the names of the biases that the base lacks."""
        layers = {path: m for path, m in self.model.named_modules() if isinstance(m, BitfitLayer)}
        return {f"{path}.bias" for path, layer in layers.items() if layer.get_base_layer().bias is None}

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> nn.Module:  # noqa: ANN401
        config = self._merged_config() if merge else self.model.config
        model: nn.Module = super()._unload_and_optionally_merge(merge, *args, **kwargs)
        if merge:
            for name in BIAS_SWITCHES:
                if name in config.to_dict():
                    setattr(model.config, name, config.to_dict()[name])
        return model


def _plain_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "base_layer")


def _switched(config: PretrainedConfig, values: dict[str, bool]) -> PretrainedConfig:
    """Return a copy of a config with some settings changed."""
    changed = copy.deepcopy(config)
    for name, value in values.items():
        setattr(changed, name, value)
    return changed
