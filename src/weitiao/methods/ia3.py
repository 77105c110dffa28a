"""One trained vector beside each chosen layer, scaling keys, values and the MLP's hidden activations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..core.errors import Problem
from ..core.settings import Unfit
from ..models.anatomy import anatomy
from ._checks import missing_names
from ._peft.targets import (
    BlockNumbers,
    ModuleNames,
    TargetedMethod,
    TargetModules,
    holds_transposed,
    last_names,
    paths_of,
    read_targets,
    shapes,
)

if TYPE_CHECKING:
    from peft import IA3Config
    from transformers import PretrainedConfig, PreTrainedModel

KEYS_AND_VALUES = frozenset({"k", "v", "key", "value", "kv", "qkv"})
"""Words in a projection's name that say it computes keys or values, alone or fused with others."""

DRAWING = """\
attention                     feed-forward
         x                             x
 ┌───────┼───────┐                     │
W_q     W_k     W_v    frozen    W_up, W_gate    frozen
 │      * l_k   * l_v  trained       * l_ff      trained
 └───────┼───────┘                     │
     softmax           frozen        W_down      frozen

l_k, l_v (out) and l_ff (in of W_down) begin at 1"""


class Ia3(TargetedMethod):
    """(IA)3's settings, under PEFT's names."""

    title: ClassVar[str] = "(IA)3"
    paper: ClassVar[str] = "https://arxiv.org/abs/2205.05638"
    formula: ClassVar[str] = "y = l * (W x) for keys and values, y = W (l * x) for the MLP's last projection"
    trains: ClassVar[str] = "a vector l (out, or in for the MLP) beside each chosen layer"
    family: ClassVar[str] = "scales and biases"
    share: ClassVar[str] = "0.0065 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "For few examples and a small adapter (2 MB for Llama-3.1-8B); needs at least ten times LoRA's learning rate."
    )
    suggested_lr: ClassVar[float] = 5e-2
    lr_falls_with_width: ClassVar[bool] = False
    peft_type: ClassVar[str] = "IA3"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    target_modules: TargetModules = "auto"
    feedforward_modules: Annotated[list[str] | Literal["auto"], BeforeValidator(read_targets)] = "auto"
    """Which of `target_modules` are scaled at their input: auto (the MLP's last projection), or names."""
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    @model_validator(mode="after")
    def _check_feedforward(self) -> Ia3:
        if isinstance(self.target_modules, list) and isinstance(self.feedforward_modules, list):
            other = sorted(set(self.feedforward_modules) - set(self.target_modules))
            if other:
                raise Unfit(
                    f"feedforward_modules must be some of target_modules; {', '.join(other)} is not",
                    "some of " + ", ".join(self.target_modules),
                    "method.target_modules=" + ",".join([*self.target_modules, *other]),
                )
        return self

    def known_targets(self) -> Mapping[str, list[str]]:
        """Return PEFT's table: architecture -> the modules that (IA)3 scales in it."""
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as KNOWN

        table: Mapping[str, list[str]] = KNOWN
        return table

    def own_targets(self, model: PreTrainedModel) -> list[str]:
        """Return the projections of keys and values and the last of the MLP, as in the paper.

        PEFT's table goes by names alone and lists queries instead of keys (Qwen2, Gemma) or of values (OPT) for some
        architectures, so it is used only if no name says what a projection computes.
        """
        attention = anatomy(model).attention
        chosen = [p for p in attention if KEYS_AND_VALUES & set(re.split(r"[_.]", p.rpartition(".")[2]))]
        if chosen:
            return last_names(chosen) + _last_of_mlp(model)
        return self.known_targets().get(model.config.model_type) or last_names(attention) + _last_of_mlp(
            model
        )

    def feedforward(self, model: PreTrainedModel) -> list[str]:
        """Return the targets that are scaled at their input, under PEFT's names."""
        if self.feedforward_modules != "auto":
            inner = set(paths_of(model, self.feedforward_modules))
        else:
            own = _known_feedforward().get(model.config.model_type)
            inner = set(paths_of(model, own if own is not None else _last_of_mlp(model)))
        return [name for name in self.targets(model) if set(paths_of(model, [name])) & inner]

    def peft_config(self, model: PreTrainedModel) -> IA3Config:
        """Return PEFT's config."""
        from peft import IA3Config

        return IA3Config(
            feedforward_modules=self.feedforward(model),
            fan_in_fan_out=holds_transposed(model),
            **self.placement(model),
        )

    def shape_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem for feed-forward names that match nothing, or none of the targets."""
        if not isinstance(self.feedforward_modules, list):
            return []
        missing = missing_names(model, "method.feedforward_modules", self.feedforward_modules)
        if missing:
            return missing
        targets, names = set(self.paths(model)), self.feedforward_modules
        other = [name for name in names if not targets & set(paths_of(model, [name]))]
        what = "method.feedforward_modules must be some of method.target_modules"
        expected = "some of " + ", ".join(last_names(targets))
        return [Problem(what, ", ".join(other), expected)] if other else []


def _known_feedforward() -> Mapping[str, list[str]]:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as KNOWN

    table: Mapping[str, list[str]] = KNOWN
    return table


def _last_of_mlp(model: PreTrainedModel) -> list[str]:
    """Return the names of the MLP's projections back to the hidden size."""
    hidden = model.get_input_embeddings().weight.shape[1]
    sizes = shapes(model, list(anatomy(model).mlp))
    return last_names(path for path, (inputs, outputs) in sizes.items() if outputs == hidden != inputs)
