"""Trains copies of the normalisation layers; everything else stays frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from ..core.settings import Unfit
from ..models.anatomy import anatomy
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, last_names

if TYPE_CHECKING:
    from peft import LNTuningConfig
    from torch import nn
    from transformers import PreTrainedModel

DRAWING = """\
x  (d)
│
normalise            to norm 1, or to mean 0 and deviation 1
│
* g   d              trained, begins as the base's
+ b   d              trained likewise, if the model has one
│
attention, or feed-forward, or head    frozen"""


class LnTuning(TargetedMethod):
    """Settings of tuning normalisation layers, under PEFT's names."""

    title: ClassVar[str] = "LayerNorm tuning"
    paper: ClassVar[str] = "https://arxiv.org/abs/2312.11420"
    formula: ClassVar[str] = "y = g * normalised(x) + b, g and b trained"
    trains: ClassVar[str] = "the weights (and biases) of the chosen normalisation layers"
    family: ClassVar[str] = "scales and biases"
    share: ClassVar[str] = "0.0033 %"
    inference_cost: ClassVar[str] = "none"
    memory: ClassVar[str] = "low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "To change the style of answers and little else: 266,240 trained parameters on Llama-3.1-8B."
    )
    suggested_lr: ClassVar[float] = 1.5e-2
    lr_falls_with_width: ClassVar[bool] = False
    peft_type: ClassVar[str] = "LN_TUNING"
    adapted_kind: ClassVar[str] = "normalisation layer"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    @field_validator("target_modules")
    @classmethod
    def _check_kind(cls, targets: list[str] | str) -> list[str] | str:
        if targets == "all-linear":
            reason = "normalisation layers are not linear ones"
            raise Unfit(reason, "auto (all of them), names or a pattern", "method.target_modules=auto")
        return targets

    def own_targets(self, model: PreTrainedModel) -> list[str] | str:
        """Return every normalisation layer (PEFT's table misses some, in Qwen2 half of them)."""
        return list(_norms(model))

    def adapts(self, module: nn.Module) -> bool:
        """Return whether a module is a normalisation layer, by its class name, as in `anatomy`."""
        return type(module).__name__.endswith("Norm")

    def choice(self, model: PreTrainedModel) -> str:
        """Return the names of the model's normalisation layers."""
        return "some of: " + ", ".join(last_names(_norms(model)))

    def peft_config(self, model: PreTrainedModel) -> LNTuningConfig:
        """Return PEFT's config."""
        from peft import LNTuningConfig

        return LNTuningConfig(**self.placement(model))


def _norms(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the normalisation layers with a parameter called weight, which PEFT trains; in Zaya one has another
    name."""
    parts = anatomy(model)
    every = parts.block_norms + parts.outer_norms
    return tuple(path for path in every if "weight" in dict(model.get_submodule(path).named_parameters()))
