"""One small matrix beside each chosen layer, whose rows are shared by shards of the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.errors import Problem
from ..core.settings import Unfit
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, shapes

if TYPE_CHECKING:
    from peft import MissConfig
    from transformers import PretrainedConfig, PreTrainedModel

DRAWING = """\
x  (in)  =  [ x_1 | x_2 | .. | x_k ]   shards of r entries
├────────────────┐
│        x_1 + x_2 + .. + x_k          r entries
W   out x in     │
│   frozen       D   r x out           trained, begins at 0
└────── + ───────┘
        y  (out)"""


class Miss(TargetedMethod):
    """MiSS's settings, under PEFT's names."""

    title: ClassVar[str] = "MiSS"
    paper: ClassVar[str] = "https://arxiv.org/abs/2409.15371"
    formula: ClassVar[str] = "y = W x + D^T (sum of the in / r shards of x, each of r entries)"
    trains: ClassVar[str] = "D (r x out) beside each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.065 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "Less memory and time than LoRA at similar quality; with bat the change also depends on the weight."
    )
    on_transposed: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 1.5e-3
    peft_type: ClassVar[str] = "MISS"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "miss_dropout": "dropout",
        "rank": "r",
        "init_weights": "variant",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=32, ge=1)
    """Number of inputs in a shard; D has r rows."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the layer's inputs during training."""
    variant: Literal["balance", "bat", "mini"] = "balance"
    """Form of the method: balance (as in the paper), bat (the change also depends on the weight) or mini (D has
    only mini_r columns)."""
    mini_r: int = Field(default=1, ge=1)
    """Number of columns of D in the variant mini; they are repeated over the outputs."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    @model_validator(mode="after")
    def _check_dropout(self) -> Miss:
        if self.variant == "bat" and self.dropout:
            reason = "dropout is not used by the variant bat, which changes the weight itself"
            raise Unfit(reason, "dropout: 0, or another variant", "method.dropout=0")
        return self

    def shape_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return one problem for each reason why r or mini_r does not fit a layer."""
        found: dict[str, Problem] = {}
        for path, (inputs, outputs) in shapes(model, self.paths(model)).items():
            what = self._misfit(inputs, outputs)
            if what:
                got = f"{path}: {inputs} inputs, {outputs} outputs, r: {self.r}, mini_r: {self.mini_r}"
                found.setdefault(what, Problem(what, got, "a number that divides the layer's sizes"))
        return list(found.values())

    def _misfit(self, inputs: int, outputs: int) -> str:
        if self.r > inputs:
            return "method.r is more than the inputs of a layer"
        if self.variant == "bat" and (inputs % self.r or outputs % self.r):
            return "the variant bat cuts a weight into squares of r by r, and a layer's sizes are no multiples of r"
        if self.variant == "mini" and outputs % self.mini_r:
            return "the variant mini repeats mini_r columns over the outputs, whose number mini_r does not divide"
        return ""

    def peft_config(self, model: PreTrainedModel) -> MissConfig:
        """Return PEFT's config."""
        from peft import MissConfig

        return MissConfig(
            r=self.r,
            miss_dropout=self.dropout,
            mini_r=self.mini_r,
            init_weights=True if self.variant == "balance" else self.variant,
            **self.placement(model),
        )
