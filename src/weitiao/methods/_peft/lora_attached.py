"""A LoRA adapter once PEFT has attached it: our own initial values, saved so that it loads on the unchanged base."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from transformers.pytorch_utils import Conv1D

from ...core.errors import ModelError, Problem
from ...models.anatomy import linear_classes, transposed_paths
from ...models.load import weightless_like
from ...models.weights.stored import StoredWeights
from . import initial
from .attached import ADAPTER, PeftAttached

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import Tensor, nn
    from torch.nn import Parameter

EVA_BATCHES = 64
"""The maximum number of batches that EVA reads; it cycles through them until the directions converge."""


class LoraAttached(PeftAttached):
    """A LoRA adapter. If B0 A0 was subtracted from a base weight, the saved adapter subtracts it instead.

    W_rest + s B A = W + s (B A - B0 A0) = W + s [B, -B0] [A; A0]: a LoRA of rank 2r on the whole base.
    """

    def __init__(self, model: PeftModel, originals: list[tuple[Parameter, Tensor]]) -> None:
        """Wrap a PEFT model with LoRA layers."""
        super().__init__(model, originals)
        self._initial: dict[str, initial.Factors] = {}
        """Module path -> (B0_out_r, A0_r_in) subtracted from its base weight."""

    def begin_from_weights(self, init: str) -> None:
        """Initialise as PiSSA or OLoRA: A and B hold part of each weight, the base the rest (skips device `meta`)."""
        factors = initial.factors_from_weight(init)
        for path, layer in self._layers():
            base = layer.get_base_layer()
            if base.weight.is_meta:
                continue
            b0, a0 = factors(_oriented(base, base.weight.data), layer.r[ADAPTER], layer.scaling[ADAPTER])
            _set_factors(layer, b0, a0)
            self._initial[path] = (b0, a0)
            self.originals.append((base.weight, base.weight.data))
        self._take_out()

    def _take_out(self) -> None:
        """Set each changed base weight to W - s B0 A0, computed from its original."""
        whole = {id(parameter): value for parameter, value in self.originals}
        for path, layer in self._layers():
            if path in self._initial:
                b0, a0 = self._initial[path]
                base = layer.get_base_layer()
                delta = layer.scaling[ADAPTER] * (b0 @ a0)
                original = whole[id(base.weight)]
                base.weight.data = (original.float() - _oriented(base, delta)).to(original.dtype)

    def _layers(self) -> Iterator[tuple[str, LoraLayer]]:
        """Yield the adapted linear layers, without experts, which always have LoRA's default initialisation."""
        for path, module in self.model.get_base_model().named_modules():
            if isinstance(module, LoraLayer) and isinstance(module.get_base_layer(), linear_classes()):
                yield path, module

    def _experts(self) -> Iterator[tuple[str, LoraLayer]]:
        """Yield the adapted parameters of experts, by the parameter's path."""
        for path, module in self.model.get_base_model().named_modules():
            if isinstance(module, ParamWrapper) and not isinstance(module.get_base_layer(), linear_classes()):
                yield f"{path.replace('.base_layer', '')}.{module.parameter_name}", module

    def begin_from_quantization_error(self) -> None:
        """Initialise as LoftQ: B A is the best rank-r approximation of a weight's quantisation error (skips device
        `meta`)."""
        from peft.utils.integrations import dequantize_module_weight

        model = self.model.get_base_model()
        stored, transposed = StoredWeights(model), transposed_paths(weightless_like(model))
        for path, layer in self._layers():
            base = layer.get_base_layer()
            # The head is never quantised, so it has no quantisation error.
            if base.weight.is_meta or base.weight.is_floating_point():
                continue
            held = dequantize_module_weight(base).float()
            whole = stored.tensor(f"{path}.weight").to(held)
            lost = (whole.T if path in transposed else whole) - held
            _set_factors(layer, *initial.loftq(lost, layer.r[ADAPTER], layer.scaling[ADAPTER]))

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Return B0 and A0: singular vectors differ between machines, and randomised ones between calls."""
        return {
            f"{path}.{letter}0": t
            for path, pair in self._initial.items()
            for letter, t in zip("BA", pair, strict=True)
        }

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Restore B0 and A0, and the base's weights as they were when the checkpoint was written."""
        super().load_checkpoint_state(state)
        self._initial = {path: (state[f"{path}.B0"], state[f"{path}.A0"]) for path in self._initial}
        self._take_out()

    def saved_form(self) -> tuple[dict[str, Tensor], LoraConfig]:
        """Return tensors and settings that plain PEFT loads on the unchanged base: of rank 2r if B0 A0 was
        subtracted."""
        state, config = super().saved_form()
        config.init_lora_weights = True
        if not self._initial:
            return state, config
        for path, (b0, a0) in self._initial.items():
            name_a, name_b = (f"base_model.model.{path}.lora_{letter}.weight" for letter in "AB")
            state[name_a] = torch.cat([state[name_a], a0.to(state[name_a])], dim=0)
            state[name_b] = torch.cat([state[name_b], -b0.to(state[name_b])], dim=1)
        config.lora_alpha *= (
            math.sqrt(2) if config.use_rslora else 2
        )  # keeps s = alpha / r, or alpha / sqrt(r)
        config.r *= 2
        for path, layer in self._experts():  # experts keep their own rank and alpha
            config.rank_pattern[re.escape(path)] = layer.r[ADAPTER]
            config.alpha_pattern[re.escape(path)] = layer.lora_alpha[ADAPTER]
        return state, config


def begin_from_data(model: PeftModel, batches: Iterable[dict[str, object]]) -> None:
    """Initialise as EVA: A holds the directions in which each layer's inputs vary most
    (https://arxiv.org/abs/2410.07170)."""
    from peft import EvaConfig
    from peft.tuners.lora.eva import get_eva_state_dict

    # rho 1 keeps every layer at rank r: ranks that depend on the data could be neither resumed nor counted beforehand.
    config = copy.copy(model.peft_config[ADAPTER])
    config.init_lora_weights, config.eva_config = "eva", EvaConfig(rho=1.0)
    training = model.training
    try:
        directions = get_eva_state_dict(
            model, list(islice(batches, EVA_BATCHES)), peft_config=config, show_progress_bar=False
        )
    except (
        ValueError
    ) as error:  # PEFT expects (B, T, D); some layers (OPT's MLP) are given all rows in one matrix
        what = f"eva cannot read the inputs of a chosen layer: {error}"
        remedy = "method.target_modules=auto or method.init_lora_weights=default"
        raise ModelError(
            Problem(what, "init_lora_weights: eva", "layers of the attention", remedy)
        ) from error
    finally:
        model.train(training)
    for path, direction_r_in in directions.items():
        layer = model.get_submodule(path)
        layer.lora_A[ADAPTER].weight.data.copy_(direction_r_in)


def _oriented(base: nn.Module, matrix: Tensor) -> Tensor:
    """Convert a matrix between out x in and the layer's own layout: Conv1D stores in x out."""
    return matrix.T if isinstance(base, Conv1D) else matrix


def _set_factors(layer: LoraLayer, b_out_r: Tensor, a_r_in: Tensor) -> None:
    layer.lora_B[ADAPTER].weight.data.copy_(b_out_r)
    layer.lora_A[ADAPTER].weight.data.copy_(a_r_in)
