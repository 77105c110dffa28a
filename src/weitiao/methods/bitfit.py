"""Trains only bias terms, a thousandth of the model or less; the weight matrices stay unchanged.

Each chosen bias b becomes b + d, and d trains from zero. This equals training b itself, except that the base is
unchanged (so it can be switched back to, shared by several adapters, or held in 4 bits) and that weight decay pulls
towards the base's bias instead of zero. Llama and most later models have no biases; `add_bias` gives their linear
layers biases that start at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from ..core.errors import Problem
from ..core.settings import Unfit
from ..models.anatomy import anatomy, head_to_save, task_type
from ._alternatives import DoesNotApply
from ._peft.attached import PeftMethod

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from ._layers.base import OwnTuner
    from ._layers.bitfit import BitfitConfig

DRAWING = """\
x  (in)
│
W   out x in     frozen
│
+ b   out        frozen; Llama has none
│
+ d   out        trained, begins at 0
│
y  (out)         likewise behind norms that have a bias"""


class Bitfit(PeftMethod):
    """Settings of BitFit: which bias terms train."""

    title: ClassVar[str] = "BitFit"
    paper: ClassVar[str] = "https://arxiv.org/abs/2106.10199"
    formula: ClassVar[str] = "y = W x + b + d, only d trains"
    trains: ClassVar[str] = "one number for each output of the chosen layers"
    family: ClassVar[str] = "scales and biases"
    share: ClassVar[str] = "0.017 % (add_bias)"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "very low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "Hardly any memory and a very small file; for light changes of tone or format."
    example: ClassVar[Mapping[str, object]] = {"add_bias": True}
    suggested_lr: ClassVar[float] = 5e-3
    lr_falls_with_width: ClassVar[bool] = False

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "terms": "targets",
        "bias": "targets",
        "target_modules": "targets",
    }

    targets: Literal["all", "attention", "mlp", "norms"] = "all"
    """Which biases to train: those of all layers, of attention, of the layers outside attention (mlp), or of the
    normalisation layers (norms)."""
    add_bias: bool = False
    """Add a bias, initialised to zero, to the chosen linear layers that have none."""

    @model_validator(mode="after")
    def _check_choice(self) -> Bitfit:
        if self.add_bias and self.targets == "norms":
            reason = "add_bias adds biases to linear layers, but the targets are norms"
            raise Unfit(reason, "targets: all, attention or mlp", "method.targets=all")
        return self

    @classmethod
    def tuner(cls) -> type[OwnTuner]:
        """Return the class that puts the layers on a model."""
        from ._layers.bitfit import BitfitTuner

        return BitfitTuner

    def peft_config(self, model: PreTrainedModel) -> BitfitConfig:
        """Return PEFT's config, with every chosen layer by its path."""
        from ._layers.bitfit import BitfitConfig

        return BitfitConfig(
            target_modules=self._paths(model),
            modules_to_save=head_to_save(model) or None,
            add_bias=self.add_bias,
            task_type=task_type(model),
        )

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem if none of the chosen layers has a bias."""
        if self._paths(model):
            return []
        what = "this architecture has no bias terms, so BitFit has nothing to train"
        if self.targets != "all":
            what = (
                f"this architecture has no bias terms in its {self.targets}, so BitFit has nothing to train"
            )
        remedy = "" if self.targets == "norms" else "method.add_bias=true"
        return [
            DoesNotApply(
                what,
                f"{type(model).__name__}, targets: {self.targets}, add_bias: {self.add_bias}",
                "a model with biases (GPT-2, OPT, BLOOM), or add_bias: true, which adds zeros to linear layers",
                remedy,
            )
        ]

    def _paths(self, model: PreTrainedModel) -> list[str]:
        """Return the paths of the layers whose biases train, in the model's order."""
        parts = anatomy(model)
        linears = {"all": parts.projections, "attention": parts.attention, "mlp": parts.mlp, "norms": ()}[
            self.targets
        ]
        norms = parts.block_norms + parts.outer_norms if self.targets in ("all", "norms") else ()
        head = (parts.head,) if self.targets == "all" and parts.head else ()
        chosen = {*linears, *norms, *head}
        have = {name.rpartition(".")[0] for name, _ in model.named_parameters() if name.endswith(".bias")}
        train = chosen & (have | set(linears) if self.add_bias else have)
        return [path for path, _ in model.named_modules() if path in train]
