"""A low-rank matrix of bounded norm beside each chosen layer: direction and strength are trained separately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules

if TYPE_CHECKING:
    from peft import DeloraConfig
    from transformers import PreTrainedModel

DRAWING = """\
x  (in)
├───────────────┐
│               * |W|    in     norms of W's columns, frozen
│               A   r x in      trained, rows scaled to norm 1
W   out x in    │
│   frozen      B   out x r     trained, columns scaled to norm 1
│               │  x lambda / r   lambda trained: bounds the change
└───── + ───────┘
       y  (out)"""


class Delora(TargetedMethod):
    """DeLoRA's settings, under PEFT's names."""

    title: ClassVar[str] = "DeLoRA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2503.18225"
    formula: ClassVar[str] = "y = W x + (lambda / r) sum_i b_i (a_i . (|W| * x)) / (|a_i| |b_i|)"
    trains: ClassVar[str] = "A (r x in), B (out x r) and the bound lambda of each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.042 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "To stay near the base whatever the learning rate: the norm of the change is bounded."
    )
    on_quantized: ClassVar[bool] = False
    on_transposed: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "DELORA"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "rank": "r",
        "lambda": "delora_lambda",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=8, ge=1)
    """Rank of the added matrices; 8 to 64 is usual."""
    delora_lambda: float = Field(default=2, gt=0, allow_inf_nan=False)
    """Initial value of the bound on the norm of the change, relative to the norms of the weight's columns. The
    change has this norm from the first step on, whatever the learning rate: PEFT's default, 15, breaks small
    models."""
    module_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's inputs during training."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    def peft_config(self, model: PreTrainedModel) -> DeloraConfig:
        """Return PEFT's config."""
        from peft import DeloraConfig

        return DeloraConfig(
            r=self.r,
            delora_lambda=self.delora_lambda,
            module_dropout=self.module_dropout,
            **self.placement(model),
        )
