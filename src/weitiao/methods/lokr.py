"""The Kronecker product of a small matrix and a low-rank one beside each chosen layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from ..core.settings import Unfit
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules

if TYPE_CHECKING:
    from peft import LoKrConfig
    from transformers import PreTrainedModel

DRAWING = """\
x  (in)
├────────────────────┐
│         ┌ c11 BA   c12 BA  .. ┐   C kron (B A), out x in
W         │ c21 BA   c22 BA  .. │   C     trained, begins at 0
│ frozen  └   ..       ..    .. ┘   A, B  trained, rank r
│                    │  x alpha / r
└──────── + ─────────┘
          y  (out)"""


class LoKr(TargetedMethod):
    """LoKr's settings, under PEFT's names."""

    title: ClassVar[str] = "LoKr"
    paper: ClassVar[str] = "https://arxiv.org/abs/2309.14859"
    formula: ClassVar[str] = "y = W x + (alpha / r) (C kron (B A)) x"
    trains: ClassVar[str] = "a small C and a low-rank B A whose Kronecker product changes each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.0032 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "medium: a dense change of each layer"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "For a small adapter whose change still has a high rank: a quarter of LoRA's parameters or fewer."
    )
    on_quantized: ClassVar[bool] = False
    on_transposed: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 3e-2
    peft_type: ClassVar[str] = "LOKR"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "rank": "r",
        "lora_alpha": "alpha",
        "lora_r": "r",
        "factor": "decompose_factor",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=8, ge=1)
    """Rank of the second factor."""
    alpha: float = Field(default=8, gt=0, allow_inf_nan=False)
    """Strength: the added part is multiplied by alpha / r."""
    rank_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the rows of the change during training."""
    module_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a layer's adapter is skipped in a training step."""
    rank_dropout_scale: bool = False
    """Scale up what rank_dropout keeps, so that the average size of the change stays the same."""
    decompose_both: bool = False
    """Make the first factor low-rank too, if r is below half of its larger side."""
    decompose_factor: int = Field(default=-1, ge=-1)
    """Largest side of the first factor; -1 makes both factors as equal in size as the layer allows."""
    init_weights: Literal["default", "lycoris"] = "default"
    """Initialisation of the factors: default (the first is zero) or lycoris (the second is zero)."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    @field_validator("decompose_factor")
    @classmethod
    def _check_factor(cls, factor: int) -> int:
        if factor == 0:
            reason = "a factor has at least one row"
            raise Unfit(
                reason, "1 or more, or -1 to let the layer's size decide", "method.decompose_factor=-1"
            )
        return factor

    def peft_config(self, model: PreTrainedModel) -> LoKrConfig:
        """Return PEFT's config."""
        from peft import LoKrConfig

        return LoKrConfig(
            r=self.r,
            alpha=self.alpha,
            rank_dropout=self.rank_dropout,
            module_dropout=self.module_dropout,
            rank_dropout_scale=self.rank_dropout_scale,
            decompose_both=self.decompose_both,
            decompose_factor=self.decompose_factor,
            init_weights="lycoris" if self.init_weights == "lycoris" else True,
            **self.placement(model),
        )
