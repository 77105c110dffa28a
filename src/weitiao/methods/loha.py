"""The Hadamard product of two low-rank matrices beside each chosen layer: rank r squared for twice LoRA's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules

if TYPE_CHECKING:
    from peft import LoHaConfig
    from transformers import PreTrainedModel

DRAWING = """\
x  (in)
├───────────────┐
│       (B1 A1) * (B2 A2)       entry by entry, out x in
W   out x in    │               A1, A2   r x in    trained
│   frozen      │               B1, B2   out x r   trained
│               │  x alpha / r  A2 begins at 0
└───── + ───────┘
       y  (out)"""


class LoHa(TargetedMethod):
    """LoHa's settings, under PEFT's names."""

    title: ClassVar[str] = "LoHa"
    paper: ClassVar[str] = "https://arxiv.org/abs/2108.06098"
    formula: ClassVar[str] = "y = W x + (alpha / r) ((B1 A1) * (B2 A2)) x"
    trains: ClassVar[str] = "two pairs of A (r x in) and B (out x r) beside each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.085 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "medium: a dense change of each layer"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "For a change of higher rank than LoRA's with few parameters; slower than LoRA."
    on_quantized: ClassVar[bool] = False
    on_transposed: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 1e-2
    peft_type: ClassVar[str] = "LOHA"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "rank": "r",
        "lora_alpha": "alpha",
        "lora_r": "r",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=8, ge=1)
    """Rank of each factor; the change has rank up to r * r."""
    alpha: float = Field(default=8, gt=0, allow_inf_nan=False)
    """Strength: the added part is multiplied by alpha / r."""
    rank_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the rows of the change during training."""
    module_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a layer's adapter is skipped in a training step."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    def peft_config(self, model: PreTrainedModel) -> LoHaConfig:
        """Return PEFT's config."""
        from peft import LoHaConfig

        return LoHaConfig(
            r=self.r,
            alpha=self.alpha,
            rank_dropout=self.rank_dropout,
            module_dropout=self.module_dropout,
            **self.placement(model),
        )
