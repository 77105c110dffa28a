"""Two low-rank matrices beside each chosen layer, without any of LoRA's other settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

DRAWING = """\
    x  (in)
    ├───────────┐
    W  frozen   B A   trained
    └──── + ────┘
          y  (out)"""


class ToyLora(TargetedMethod):
    """Settings of the toy: a method that PEFT computes."""

    title: ClassVar[str] = "Toy LoRA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    formula: ClassVar[str] = "y = W x + B A x"
    trains: ClassVar[str] = "A (rank x in) and B (out x rank) beside each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.021 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "Never: it shows what one file of a method needs."
    peft_type: ClassVar[str] = "LORA"
    example: ClassVar[dict[str, object]] = {"rank": 4}

    rank: int = Field(ge=1)
    """Rank of the change; it has no default, so that help texts and tests need `example`."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    def peft_config(self, model: PreTrainedModel) -> LoraConfig:
        """Return PEFT's config."""
        from peft import LoraConfig

        return LoraConfig(r=self.rank, lora_alpha=self.rank, **self.placement(model))
