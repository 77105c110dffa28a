"""Two short vectors beside each chosen layer; the two matrices between them are random, shared and never trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from ..core.settings import Unfit
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, holds_transposed

if TYPE_CHECKING:
    from peft import VeraConfig
    from transformers import PreTrainedModel

DRAWING = """\
x  (in)
├───────────────┐
│               A   r x in      random, frozen, shared by all layers
W   out x in    * d   r         trained, begins at 0.1
│   frozen      B   out x r     random, frozen, shared by all layers
│               * b   out       trained, begins at 0
└───── + ───────┘
       y  (out)"""


class Vera(TargetedMethod):
    """VeRA's settings, under PEFT's names without the prefix `vera_`."""

    title: ClassVar[str] = "VeRA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2310.11454"
    formula: ClassVar[str] = "y = W x + b * (B (d * (A x))), A and B fixed"
    trains: ClassVar[str] = "d (r) and b (out) of each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.0022 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "For the smallest adapters, many of them on one base: a tenth of LoRA's parameters or fewer."
    )
    suggested_lr: ClassVar[float] = 5e-2
    lr_falls_with_width: ClassVar[bool] = False
    peft_type: ClassVar[str] = "VERA"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "vera_dropout": "dropout",
        "rank": "r",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=256, ge=1)
    """Rank of the shared matrices; it can be far higher than LoRA's, because only d grows with it."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the layer's inputs during training."""
    d_initial: float = Field(default=0.1, allow_inf_nan=False)
    """Initial value of every entry of d; 0.1 or less works best (table 6c of the paper)."""
    projection_prng_key: int = Field(default=0, ge=0)
    """Seed of the shared matrices."""
    save_projection: bool = True
    """Save the shared matrices too: a larger file that gives the same answers on every machine."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    @field_validator("d_initial")
    @classmethod
    def _check_initial(cls, value: float) -> float:
        if value == 0:
            reason = "d would start at 0 like b, and neither would ever change"
            raise Unfit(reason, "a number other than 0", "method.d_initial=0.1")
        return value

    def peft_config(self, model: PreTrainedModel) -> VeraConfig:
        """Return PEFT's config."""
        from peft import VeraConfig

        return VeraConfig(
            r=self.r,
            vera_dropout=self.dropout,
            d_initial=self.d_initial,
            projection_prng_key=self.projection_prng_key,
            save_projection=self.save_projection,
            fan_in_fan_out=holds_transposed(model),
            **self.placement(model),
        )
