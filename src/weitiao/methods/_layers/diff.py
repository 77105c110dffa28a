"""Diff pruning as a PEFT layer: a sparse difference to each chosen weight, found by gates that learn to close.

While gates train, d = z * w with z hard-concrete (https://arxiv.org/abs/1712.01312); afterwards a fixed mask replaces
them. A file stores the indices and values of the non-zero entries. All matrices are (out, in), also where the base
stores its weight transposed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from peft.tuners._buffer_dict import BufferDict
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .base import AddingLayer, OwnConfig, OwnTuner

LOW, HIGH = -1.5, 1.5
"""The interval (l, r) that the concrete distribution is stretched to before it is clamped to 0..1, as in the paper."""
SMALLEST = 1e-6
"""Keeps the uniform samples away from 0 and 1, whose logits are infinite."""
INDICES, VALUES = "diff_indices", "diff_values"


@dataclass
class DiffConfig(OwnConfig):
    """PEFT's config of diff pruning."""

    kind: ClassVar[str] = "WEITIAO_DIFF_PRUNING"
    layers_to_transform: list[int] | None = None
    structured: bool = False
    gate_start: float = 5.0
    gate_speed: float = 100.0
    pruned: bool = False
    """Whether the gates are gone and only values at fixed positions are left, as in every file."""


def hard_concrete(alpha: Tensor, noise: bool) -> Tensor:
    """Return gates z in 0..1: sampled with torch's global generator, or without noise if `noise` is false.

    u ~ U(0, 1), s = sigmoid(log u - log(1 - u) + alpha), z = min(1, max(0, s (r - l) + l)) (Guo et al., section 3.1).
    """
    if noise:
        u = torch.rand_like(alpha).clamp(SMALLEST, 1 - SMALLEST)
        alpha = alpha + u.log() - (-u).log1p()
    return (alpha.sigmoid() * (HIGH - LOW) + LOW).clamp(0, 1)


def chance_open(alpha: Tensor) -> Tensor:
    """Return the probability of each gate not being 0: sigmoid(alpha - log(-l / r))."""
    return (alpha - math.log(-LOW / HIGH)).sigmoid()


class DiffLayer(AddingLayer):
    """A linear layer with d (out, in) added to its weight; `alpha` is gate_start + gate_speed * gates."""

    adapter_layer_names = ("diff_weight", "diff_gates", "diff_group")
    other_param_names = ("diff_mask",)

    def __init__(self, base_layer: nn.Module) -> None:
        """Wrap a linear layer."""
        super().__init__(base_layer)
        self.diff_weight, self.diff_gates, self.diff_group = (nn.ParameterDict() for _ in range(3))
        self.diff_mask = BufferDict(persistent=True)
        self.configs: dict[str, DiffConfig] = {}
        self.fixed: set[str] = set()
        """The adapters whose gates are gone."""

    @property
    def out_in(self) -> tuple[int, int]:
        """The shape of the weight, out first."""
        base = self.get_base_layer()
        if isinstance(base, Conv1D):
            return base.weight.shape[1], base.weight.shape[0]
        return base.out_features, base.in_features

    def add(self, adapter: str, config: DiffConfig) -> None:
        """Create w as zeros, and open gates unless the difference's positions are already fixed."""
        place: dict[str, Any] = {"device": self.device, "dtype": torch.float32}
        self.configs[adapter] = config
        self.diff_weight[adapter] = nn.Parameter(torch.zeros(self.out_in, **place))
        self.diff_mask[adapter] = torch.ones(self.out_in, dtype=torch.bool, device=self.device)
        if config.pruned:
            self.fixed.add(adapter)
            return
        self.diff_gates[adapter] = nn.Parameter(torch.zeros(self.out_in, **place))
        if config.structured:
            self.diff_group[adapter] = nn.Parameter(torch.zeros(1, **place))

    def alphas(self, adapter: str) -> Iterator[Tensor]:
        """Yield the gates' log-odds: (out, in) for the single weights and, if structured, (1,) for the whole matrix."""
        config = self.configs[adapter]
        for gates in (self.diff_gates, self.diff_group):
            if adapter in gates:
                yield config.gate_start + config.gate_speed * gates[adapter]

    def difference(self, adapter: str, noise: bool) -> Tensor:
        """Return d, of shape (out, in)."""
        weight: Tensor = self.diff_weight[adapter]
        if adapter in self.fixed:
            kept: Tensor = weight * self.diff_mask[adapter]
            return kept
        for alpha in self.alphas(adapter):
            weight = weight * hard_concrete(alpha, noise)
        return weight

    def expected_size(self, adapter: str) -> Tensor:
        """Return the expected number of weights that differ, a scalar."""
        chance = torch.ones((), device=self.device)
        for alpha in self.alphas(adapter):
            chance = chance * chance_open(alpha)
        return chance.sum()

    def fix(self, adapter: str, mask: Tensor) -> None:
        """Keep the difference only where a mask (out, in) is true, and from now on train it there without gates."""
        weight = self.diff_weight[adapter]
        weight.data = self.difference(adapter, noise=False).detach() * mask
        self.restore(adapter, mask)

    def restore(self, adapter: str, mask: Tensor) -> None:
        """Set the mask that replaces the gates, without changing the values."""
        self.diff_mask[adapter].copy_(mask)
        self.fixed.add(adapter)

    def adapted(self, adapter: str, x: Tensor, output: Tensor) -> Tensor:
        """Return the output plus d x."""
        difference = self.difference(adapter, noise=self.training)
        return output + nn.functional.linear(x.to(difference.dtype), difference).to(output.dtype)

    @torch.no_grad()
    def fold(self, adapter: str, sign: int) -> None:
        """Add d to the weight."""
        base, difference = self.get_base_layer(), sign * self.difference(adapter, noise=False)
        change = difference.T if isinstance(base, Conv1D) else difference
        base.weight.data = (base.weight.data + change).to(base.weight.dtype)

    def sparse(self, adapter: str) -> tuple[Tensor, Tensor]:
        """Return the flat indices, row by row, of d's non-zero entries (int32 if the layer's size allows) and their
        values."""
        flat = self.difference(adapter, noise=False).detach().flatten()
        dtype = torch.int32 if flat.numel() - 1 <= torch.iinfo(torch.int32).max else torch.int64
        if flat.is_meta:  # a weightless model has no values
            return flat.new_empty(0, dtype=dtype), flat.new_empty(0)
        indices = flat.nonzero()[:, 0]
        return indices.to(dtype), flat[indices]


class DiffTuner(OwnTuner):
    """Puts sparse differences on a model."""

    prefix = "diff_"
    config_class = DiffConfig
    tuner_layer_cls = DiffLayer

    def _check_target_module_compatiblity(
        self, peft_config: DiffConfig, model: nn.Module, target_name: str
    ) -> None:
        """Skip PEFT's check, which is about Mamba's fused kernels reading LoRA's weights."""

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: DiffConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for path, layer in layers_of(model, adapter_name).items():
            indices, values = layer.sparse(adapter_name)
            state[f"{path}.{INDICES}.{adapter_name}"] = indices
            state[f"{path}.{VALUES}.{adapter_name}"] = values
        return state

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: DiffConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        state = dict(state_dict)
        for path, layer in layers_of(model, adapter_name).items():
            for stored in (path, f"base_model.model.{path}"):
                if f"{stored}.{INDICES}" in state:
                    indices, values = state.pop(f"{stored}.{INDICES}"), state.pop(f"{stored}.{VALUES}")
                    dense = _dense(indices, values, layer.out_in, stored)
                    state[f"{path}.diff_weight.{adapter_name}"] = dense
                    state[f"{path}.diff_mask.{adapter_name}"] = dense != 0
        return state


def layers_of(model: nn.Module, adapter: str) -> dict[str, DiffLayer]:
    """Return the layers that hold a named adapter, by path."""
    layers = {path: m for path, m in model.named_modules() if isinstance(m, DiffLayer)}
    return {path: layer for path, layer in layers.items() if adapter in layer.diff_weight}


def _dense(indices: Tensor, values: Tensor, out_in: tuple[int, int], path: str) -> Tensor:
    """Return a sparse difference as a matrix; raises ValueError for indices outside it."""
    if indices.shape != values.shape or (
        indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < math.prod(out_in)
    ):
        raise ValueError(f"{path}: the stored difference does not fit a weight of {out_in[0]} x {out_in[1]}")
    dense = values.new_zeros(math.prod(out_in))
    dense[indices.long()] = values
    return dense.view(out_in)
