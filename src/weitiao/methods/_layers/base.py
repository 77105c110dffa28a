"""What our own methods share as PEFT sees them: settings, a layer around one of the base's, and who puts it there."""

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
    """PEFT's settings of one of our own methods."""

    kind: ClassVar[str]
    """The `peft_type`: what PEFT's tables hold the method under."""
    target_modules: list[str] | str | None = field(default=None)
    """Paths, last names or a regular expression, as PEFT reads them."""
    modules_to_save: list[str] | None = None
    """Modules trained whole beside it."""

    def __post_init__(self) -> None:
        """Fill in the kind."""
        super().__post_init__()
        self.peft_type = self.kind


class OwnLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """One of the base's modules, and what the adapters by name make of it; the base stays as it is."""

    keeps_ties: ClassVar[bool] = False
    """Whether merging changes alike all modules that share a weight, so that it may stay shared."""

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
        """Create the named adapter's parameters, in fp32 and where the base's lie."""

    @abstractmethod
    def fold(self, adapter: str, sign: int) -> None:
        """Add the named adapter to the base's weights (`sign` 1), or take it out again (-1)."""

    @property
    def device(self) -> torch.device:
        """Where the base's parameters lie."""
        device: torch.device = next(self.get_base_layer().parameters()).device
        return device

    def acting(self) -> list[str]:
        """Return the adapters that change what the base computes now; those folded into it do so no longer."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        if self.disable_adapters or self.merged:
            return []
        return [adapter for adapter in self.active_adapters if adapter in self._get_available_adapters()]

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Fold adapters into the base; raises ValueError for numbers that are not finite where `safe_merge` asks."""
        for adapter in check_adapters_to_merge(self, adapter_names):
            if adapter not in self._get_available_adapters():
                continue
            if safe_merge and not all(p.isfinite().all() for p in self._own(adapter)):
                raise ValueError(f"the adapter {adapter} holds numbers that are not finite")
            self.fold(adapter, 1)
            self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Take every folded adapter out of the base again."""
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
    """One of the base's modules, and what adapters make of its output."""

    @abstractmethod
    def adapted(self, adapter: str, x: Tensor, output: Tensor) -> Tensor:
        """Return the output that the named adapter makes of the base's input and output."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401  (whatever the base takes)
        """Return the base's output, changed by each active adapter that this layer has."""
        acting = self.acting()
        output: Tensor = self.base_layer(x, *args, **kwargs)
        for adapter in acting:
            output = self.adapted(adapter, x, output)
        return output


class OwnTuner(BaseTuner):  # type: ignore[misc]
    """Puts layers of one class around the targets."""

    config_class: ClassVar[type[OwnConfig]]
    tuner_layer_cls: ClassVar[type[OwnLayer]]

    def wrap(self, target: nn.Module) -> OwnLayer:
        """Return a layer around a module of the base."""
        return self.tuner_layer_cls(target)

    def require_mergeable(self) -> None:
        """Raise ModelError where the adapter has no merged form on this model."""

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
