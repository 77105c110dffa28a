"""LoRA in the form of a singular value decomposition; ranks are allocated to layers during training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.errors import Problem, SettingsError
from ..core.settings import Unfit, left_out
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, holds_transposed

if TYPE_CHECKING:
    from peft import AdaLoraConfig, PeftConfig, PeftModel
    from torch import Tensor
    from torch.nn import Parameter
    from transformers import PreTrainedModel

    from ._peft.attached import PeftAttached

SCHEDULE = ("total_step", "tinit", "tfinal", "deltaT", "rank_pattern")
"""PEFT's settings of the pruning schedule: they belong to one run, not to the adapter."""

DRAWING = """\
x  (in)
├───────────────┐
│               A   r x in      trained
W   out x in    │
│   frozen      E   r           trained, begins at 0; on the way the
│               │               least important ones are cut to 0
│               B   out x r     trained
│               │  x alpha / r
└───── + ───────┘
       y  (out)"""


class AdaLora(TargetedMethod):
    """AdaLoRA's settings, under PEFT's names without the prefix `lora_`."""

    title: ClassVar[str] = "AdaLoRA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2303.10512"
    formula: ClassVar[str] = "y = W x + (alpha / r) B E A x, E diagonal and partly set to zero"
    trains: ClassVar[str] = "A (r x in), E (r) and B (out x r) beside each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.064 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "low; 12 bytes more per trained parameter"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "To spend a budget of ranks where it matters; needs a long run and all linear layers."
    )
    suggested_lr: ClassVar[float] = 1.1e-2
    peft_type: ClassVar[str] = "ADALORA"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "lora_r": "target_r",
        "r": "target_r",
        "rank": "target_r",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    init_r: int = Field(default=12, ge=2)
    """Rank of every layer at the start; usually 1.5 times target_r."""
    target_r: int = Field(default=8, ge=1)
    """Average rank of the layers at the end."""
    alpha: float = Field(default=32, gt=0, allow_inf_nan=False)
    """Strength: the added part is multiplied by alpha / init_r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the inputs of A during training."""
    tinit: int | None = left_out("(a tenth of the run)", ge=0)
    """Steps before the ranks are first reduced. Default: a tenth of the run."""
    tfinal: int | None = left_out("(three tenths of the run)", ge=1)
    """Steps at the end during which the ranks stay fixed. Default: three tenths of the run."""
    deltaT: int = Field(default=1, ge=1)
    """Steps between two reductions of the ranks."""
    beta1: float = Field(default=0.85, gt=0, lt=1)
    """Decay rate of the running average of a weight's importance."""
    beta2: float = Field(default=0.85, gt=0, lt=1)
    """Decay rate of the running average of its uncertainty."""
    orth_reg_weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Weight of the penalty that keeps A and B orthogonal."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which of the model's biases to train as well: none, all, or those of the chosen layers (lora_only)."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    @model_validator(mode="after")
    def _check_ranks(self) -> AdaLora:
        if self.target_r >= self.init_r:
            raise Unfit(
                f"target_r ({self.target_r}) must be below init_r ({self.init_r}): ranks are only ever reduced",
                "target_r below init_r",
                f"method.init_r={self.target_r * 3 // 2 + 1}",
            )
        return self

    def peft_config(self, model: PreTrainedModel) -> AdaLoraConfig:
        """Return PEFT's config; the length of the run is not known yet and is set by `starts`."""
        from peft import AdaLoraConfig

        tinit, tfinal = self.tinit or 0, self.tfinal or 1
        return AdaLoraConfig(
            init_r=self.init_r,
            target_r=self.target_r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            tinit=tinit,
            tfinal=tfinal,
            total_step=tinit + tfinal + 1,  # the smallest that PEFT accepts
            deltaT=self.deltaT,
            beta1=self.beta1,
            beta2=self.beta2,
            orth_reg_weight=self.orth_reg_weight,
            bias=self.bias,
            fan_in_fan_out=holds_transposed(model),
            **self.placement(model),
        )

    def ends(self, total_steps: int) -> tuple[int, int]:
        """Return (tinit, tfinal) for a run of `total_steps`; a value left out is a share of them."""
        tinit = total_steps // 10 if self.tinit is None else self.tinit
        tfinal = max(1, total_steps * 3 // 10) if self.tfinal is None else self.tfinal
        return tinit, tfinal

    def checked_ends(self, total_steps: int) -> tuple[int, int]:
        """Return (tinit, tfinal); raises SettingsError if no step is left between them."""
        self.check_steps(total_steps)
        return self.ends(total_steps)

    def check_steps(self, total_steps: int, continues: bool = False) -> None:
        """Raise SettingsError if no step is left between the first tinit and the last tfinal steps."""
        tinit, tfinal = self.ends(total_steps)
        if tinit + tfinal >= total_steps:
            raise SettingsError(
                Problem(
                    "AdaLoRA reduces ranks between its first tinit and its last tfinal steps, and none is left between",
                    f"{total_steps} steps, tinit: {tinit}, tfinal: {tfinal}",
                    "tinit + tfinal below the number of steps",
                    "more train.epochs, a smaller train.batch_size, or method=lora for such a short run",
                )
            )

    def attached(self, model: PeftModel, originals: list[tuple[Parameter, Tensor]]) -> PeftAttached:
        """Return the adapter with its budget schedule."""
        from ._peft.adalora_attached import AdaLoraAttached

        return AdaLoraAttached(model, originals, self.checked_ends)

    def plan(self, model: PreTrainedModel) -> PeftAttached:
        """Put a new adapter on a weightless model to count what it adds."""
        return self.attached(self.wrapped(model, self.peft_config(model)), [])

    def continue_from(self, model: PreTrainedModel, folder: Path) -> PeftAttached:
        """Put a saved adapter on a model to train it further; its budget is cut again by this run's schedule."""
        loaded = super().continue_from(model, folder)
        return self.attached(loaded.model, loaded.originals)

    def _differences(self, wanted: PeftConfig, saved: PeftConfig, folder: Path) -> list[Problem]:
        have = saved.to_dict()
        for key in SCHEDULE:  # not compared: a schedule belongs to one run
            setattr(wanted, key, have[key])
        if not have["rank_pattern"]:
            return super()._differences(wanted, saved, folder)
        what = "this adapter's file lacks the ranks that were cut, so no budget is left to allocate"
        return [Problem(what, str(folder), "an adapter saved with every rank, as weitiao saves it")]
