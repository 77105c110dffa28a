"""Base classes of our own methods in PEFT: the config, the layer around a base module, and the tuner."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn


@dataclass
class OwnConfig(PeftConfig):  # type: ignore[misc]  # PEFT has no types
    """PEFT's config of one of our own methods."""

    kind: ClassVar[str]
    """The `peft_type`: the method's key in PEFT's tables."""
    target_modules: list[str] | str | None = field(default=None)
    """Paths, last names or a regular expression, as PEFT reads them."""
    modules_to_save: list[str] | None = None
    """Modules trained in full beside the adapter."""

    def __post_init__(self) -> None:
        """Set `peft_type`."""
        super().__post_init__()
        self.peft_type = self.kind


class OwnLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A base module with the parameters of adapters, stored by adapter name; the base's own are unchanged."""

    keeps_ties: ClassVar[bool] = False
    """Whether merging changes all modules that share a weight in the same way, so that it may stay shared."""

    get_base_layer: Callable[[], Any]
    _get_available_adapters: Callable[[], set[str]]
    disable_adapters: bool
    merged: bool
    active_adapters: list[str]

    def __init__(self, base_layer: nn.Module) -> None:
        """Wrap a module of the base."""
        super().__init__()
        self.base_layer = base_layer
        self.merged_adapters: list[str] = []
        self._disable_adapters = False

    @abstractmethod
    def add(self, adapter: str, config: Any) -> None:  # noqa: ANN401  (the settings of the layer's own method)
        """Create the named adapter's parameters, in fp32 on the base's device."""

    @abstractmethod
    def fold(self, adapter: str, sign: int) -> None:
        """Add the named adapter to the base's weights (`sign` 1), or take it out again (-1)."""

    @property
    def device(self) -> torch.device:
        """The device of the base's parameters."""
        device: torch.device = next(self.get_base_layer().parameters()).device
        return device

    def acting(self) -> list[str]:
        """Return the adapters that change the base's output now: none if adapters are disabled or merged.

        If merged adapters are disabled, they are first taken out of the base.
        """
        if self.disable_adapters and self.merged:
            self.unmerge()
        if self.disable_adapters or self.merged:
            return []
        return [adapter for adapter in self.active_adapters if adapter in self._get_available_adapters()]

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Fold adapters into the base; with `safe_merge`, raises ValueError if an adapter is not finite."""
        for adapter in check_adapters_to_merge(self, adapter_names):
            if adapter not in self._get_available_adapters():
                continue
            if safe_merge and not all(p.isfinite().all() for p in self._own(adapter)):
                raise ValueError(f"the adapter {adapter} holds NaN or inf")
            self.fold(adapter, 1)
            self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Take every merged adapter out of the base again."""
        while self.merged_adapters:
            self.fold(self.merged_adapters.pop(), -1)

    def _own(self, adapter: str) -> list[Tensor]:
        """Return the named adapter's parameters."""
        return [
            p
            for name, p in self.named_parameters()
            if adapter in name.split(".") and "base_layer" not in name
        ]


class AddingLayer(OwnLayer):
    """A base module whose output is changed by adapters."""

    @abstractmethod
    def adapted(self, adapter: str, x: Tensor, output: Tensor) -> Tensor:
        """Return the new output, computed by the named adapter from the base's input and output."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401  (whatever the base takes)
        """Return the base's output, changed by each active adapter that this layer has."""
        acting = self.acting()
        output: Tensor = self.base_layer(x, *args, **kwargs)
        for adapter in acting:
            output = self.adapted(adapter, x, output)
        return output


class OwnTuner(BaseTuner):  # type: ignore[misc]
    """Puts layers of one class around the target modules."""

    config_class: ClassVar[type[OwnConfig]]
    tuner_layer_cls: ClassVar[type[OwnLayer]]

    def wrap(self, target: nn.Module) -> OwnLayer:
        """Return a new layer around a module of the base."""
        return self.tuner_layer_cls(target)

    def require_mergeable(self) -> None:
        """Raise ModelError if the adapter has no merged form on this model."""

    def _check_merge_allowed(self) -> None:
        self.require_mergeable()
        super()._check_merge_allowed()

    def _create_and_replace(
        self,
        peft_config: OwnConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, OwnLayer):
            target.add(adapter_name, peft_config)
            return
        layer = self.wrap(target)
        layer.add(adapter_name, peft_config)
        self._replace_module(parent, target_name, layer, target)
