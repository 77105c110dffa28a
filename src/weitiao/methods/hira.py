"""A low-rank matrix that multiplies each chosen weight entry by entry, so that the change has a high rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, holds_transposed

if TYPE_CHECKING:
    from peft import HiraConfig
    from transformers import PreTrainedModel

DRAWING = """\
x  (in)
├───────────────┐
│           W * (B A)           entry by entry, W frozen
W   out x in    │               A   r x in    trained
│   frozen      │               B   out x r   trained, begins at 0
└───── + ───────┘
       y  (out)"""


class Hira(TargetedMethod):
    """HiRA's settings, under PEFT's names without the prefix `hira_`."""

    title: ClassVar[str] = "HiRA"
    paper: ClassVar[str] = "https://openreview.net/forum?id=TwJrTz9cRS"
    formula: ClassVar[str] = "y = W x + (W * (B A)) x"
    trains: ClassVar[str] = "A (r x in) and B (out x r) of each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.17 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "medium: a dense change of each layer"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "When LoRA's rank is too small for the task (reasoning, long training); needs a high learning rate."
    )
    suggested_lr: ClassVar[float] = 1.3e-2
    peft_type: ClassVar[str] = "HIRA"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "hira_dropout": "dropout",
        "rank": "r",
        "init_weights": "init_hira_weights",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=32, ge=1)
    """Rank of the matrix that multiplies the weight; the change itself can reach the rank of the weight."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the layer's inputs during training."""
    init_hira_weights: Literal["default", "gaussian"] = "default"
    """Initialisation of A: default (Kaiming) or gaussian; B starts at zero."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    def peft_config(self, model: PreTrainedModel) -> HiraConfig:
        """Return PEFT's config."""
        from peft import HiraConfig

        return HiraConfig(
            r=self.r,
            hira_dropout=self.dropout,
            init_weights="gaussian" if self.init_hira_weights == "gaussian" else True,
            fan_in_fan_out=holds_transposed(model),
            **self.placement(model),
        )
