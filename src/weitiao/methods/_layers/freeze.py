"""Freezing as a PEFT layer: in chosen modules of the base, trained copies replace the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...core.errors import ModelError, Problem
from .base import OwnConfig, OwnLayer, OwnTuner


@dataclass
class FreezeConfig(OwnConfig):
    """PEFT's config of partial fine-tuning: the chosen modules, each with all its weights."""

    kind: ClassVar[str] = "WEITIAO_FREEZE"


class FreezeLayer(OwnLayer):
    """A base module and, per adapter, fp32 copies of its parameters that it computes with instead.

    A copy is cast to the dtype of the base's parameter. If two modules share a parameter, the first holds the copy for
    both.
    """

    adapter_layer_names = ("tuned_weights",)
    keeps_ties = True

    def __init__(self, base_layer: nn.Module, shared: dict[str, tuple[FreezeLayer, str]]) -> None:
        """Wrap a module; `shared` maps a parameter's name to the layer that holds the same parameter, and its name
        there."""
        super().__init__(base_layer)
        self.tuned_weights = nn.ModuleDict()
        self.shared = shared
        self._originals: dict[str, dict[str, Tensor]] = {}

    def add(self, adapter: str, config: FreezeConfig) -> None:
        """Copy the base's parameters; raises ModelError if they are quantised."""
        own = {
            name: parameter
            for name, parameter in self.get_base_layer().named_parameters()
            if not (name in self.shared and adapter in self.shared[name][0].tuned_weights)
        }
        if not all(parameter.is_floating_point() for parameter in own.values()):
            raise ModelError(_packed(self.get_base_layer()))
        self.tuned_weights[adapter] = nn.ParameterDict(
            {_key(name): nn.Parameter(p.detach().to(torch.float32, copy=True)) for name, p in own.items()}
        )

    def copy_of(self, adapter: str, name: str) -> Tensor:
        """Return the trained copy of one of the base's parameters, in fp32 and of the same shape."""
        own = self._copies(adapter)
        if _key(name) in own:
            return own[_key(name)]
        holder, name_there = self.shared[name]
        return holder.copy_of(adapter, name_there)

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (whatever the base takes and gives)
        """Return the output of the base's module, computed with the active adapter's weights."""
        acting = self.acting()
        if not acting:
            return self.base_layer(*args, **kwargs)
        if len(acting) > 1:
            raise ValueError(f"only one adapter can replace a weight, not {', '.join(acting)}")
        weights = {
            name: self.copy_of(acting[0], name).to(p.dtype) for name, p in self.base_layer.named_parameters()
        }
        return functional_call(self.base_layer, weights, args, kwargs)

    @torch.no_grad()
    def fold(self, adapter: str, sign: int) -> None:
        """Replace the base's weights by the copies (`sign` 1), or restore them (-1)."""
        parameters = dict(self.get_base_layer().named_parameters())
        if sign < 0:
            for name, original in self._originals.pop(adapter).items():
                parameters[name].data = original
            return
        own = [name for name in parameters if _key(name) in self._copies(adapter)]
        self._originals[adapter] = {name: parameters[name].data for name in own}
        for name in own:
            parameters[name].data = self.copy_of(adapter, name).detach().to(parameters[name].dtype)

    def _copies(self, adapter: str) -> Mapping[str, Tensor]:
        """Return the adapter's copies that this layer itself holds."""
        return cast("Mapping[str, Tensor]", self.tuned_weights[adapter])


class FreezeTuner(OwnTuner):
    """Puts trained copies on a model."""

    prefix = "tuned_"
    config_class = FreezeConfig
    tuner_layer_cls = FreezeLayer

    def wrap(self, target: nn.Module) -> FreezeLayer:
        """Return a layer around a module, told which of the module's parameters another layer already holds.

        Raises ModelError if another adapter already has a copy of a part of the module.
        """
        if any(isinstance(module, FreezeLayer) for module in target.modules()):
            raise ModelError(_overlapping(target))
        holders = {
            id(parameter): (layer, name)
            for layer in self.model.modules()
            if isinstance(layer, FreezeLayer)
            for name, parameter in layer.get_base_layer().named_parameters()
        }
        shared = {name: holders[id(p)] for name, p in target.named_parameters() if id(p) in holders}
        return FreezeLayer(target, shared)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        """Replace a module; PEFT's own method also carries over `weight`, which not every module has."""
        setattr(parent, child_name, new_module)

    def _check_tied_modules(self, model: nn.Module, peft_config: FreezeConfig) -> None:
        """Skip PEFT's warning about a head tied to the embeddings: here both use one copy."""

    def _get_tied_target_modules(self, model: nn.Module) -> list[str]:
        """Return none, to avoid PEFT's warning on merging, for the same reason."""
        return []


def _key(name: str) -> str:
    """Return a nested parameter's key among the copies: a ParameterDict's keys may not contain dots."""
    return name.replace(".", "/")


def _packed(layer: nn.Module) -> Problem:
    return Problem(
        "the trained weights replace those of the base, and this base is quantised",
        type(layer).__name__,
        "the base in bf16, fp16 or fp32",
        "model.quantization=none",
    )


def _overlapping(target: nn.Module) -> Problem:
    return Problem(
        "another adapter on this base trained a part of a module that this one trained in full",
        type(target).__name__,
        "adapters that trained the same parts or separate ones",
        "load this adapter on its own copy of the base",
    )
