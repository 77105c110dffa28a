"""A low-rank matrix beside each chosen linear layer; the model itself stays as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from ..core.errors import Problem, nearest
from ..core.settings import Unfit
from ..models.anatomy import anatomy, linear_classes
from ..models.precision import quantization_of
from ._experts import apart, fused, names_for
from ._peft.attached import PeftAttached
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, holds_transposed

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import Tensor, nn
    from torch.nn import Parameter
    from transformers import PretrainedConfig, PreTrainedModel

INITIALISATIONS = re.compile(r"default|gaussian|pissa|pissa_niter_[1-9]\d*|olora|eva|loftq")
FROM_WEIGHTS = ("pissa", "olora")

DRAWING = """\
x  (in)
├───────────────┐
│               A   r x in      trained
W   out x in    │
│   frozen      B   out x r     trained, begins at 0
│               │  x alpha / r
└───── + ───────┘
       y  (out)"""


class Lora(TargetedMethod):
    """LoRA's settings, under PEFT's names without the prefix `lora_`."""

    title: ClassVar[str] = "LoRA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    formula: ClassVar[str] = "y = W x + (alpha / r) B A x"
    trains: ClassVar[str] = "A (r x in) and B (out x r) beside each chosen layer"
    family: ClassVar[str] = "low rank"
    share: ClassVar[str] = "0.52 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "The first thing to try: little memory, robust settings, merges into the base."

    peft_type: ClassVar[str] = "LORA"
    adapted_kind: ClassVar[str] = "linear or embedding layer"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "lora_alpha": "alpha",
        "lora_r": "r",
        "lora_rank": "r",
        "rank": "r",
        "lora_dropout": "dropout",
        "lora_target": "target_modules",
        "target": "target_modules",
        "lora_target_modules": "target_modules",
        "additional_target": "modules_to_save",
        "lora_modules_to_save": "modules_to_save",
        "rslora": "use_rslora",
        "dora": "use_dora",
        "init": "init_lora_weights",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=16, ge=1)
    """Rank of the added matrices: how many directions can change; 8 to 64 is usual."""
    alpha: float = Field(default=32, gt=0, allow_inf_nan=False)
    """Strength: the added part is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the inputs of A during training."""
    target_modules: TargetModules = "all-linear"
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which of the model's biases to train as well: none, all, or those of the chosen layers (lora_only)."""
    modules_to_save: ModuleNames = Field(default=[])
    use_rslora: bool = False
    """Rank-stabilised scaling alpha / sqrt(r), for high ranks (https://arxiv.org/abs/2312.03732)."""
    use_dora: bool = False
    """DoRA: train the magnitude and the direction of each weight separately; slower
    (https://arxiv.org/abs/2402.09353)."""
    init_lora_weights: str = "default"
    """Initialisation of A and B: default, gaussian, pissa, pissa_niter_N (faster), olora, eva (from the data),
    loftq (4-bit bases). Experts of a mixture always start as default; eva cannot be used with them."""
    layers_to_transform: BlockNumbers = None

    @field_validator("init_lora_weights")
    @classmethod
    def _check_initialisation(cls, name: str) -> str:
        if not INITIALISATIONS.fullmatch(name):
            known = ("default", "gaussian", "pissa", "pissa_niter_4", "olora", "eva", "loftq")
            near = [f"method.init_lora_weights={other}" for other in nearest(name, known)]
            raise Unfit("there is no such initialisation", "one of " + ", ".join(known), " or ".join(near))
        return name

    @property
    def _from_weights(self) -> bool:
        return self.init_lora_weights.startswith(FROM_WEIGHTS)

    def peft_config(self, model: PreTrainedModel) -> LoraConfig:
        """Return PEFT's config; initial values from weights or data are set by `attached` and `prepare`."""
        from peft import LoraConfig
        from torch import nn

        from ._peft.lora_linear import one_operation

        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            bias=self.bias,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            init_lora_weights="gaussian" if self.init_lora_weights == "gaussian" else True,
            fan_in_fan_out=holds_transposed(model),
            **self.lora_placement(model),
        )
        config._register_custom_module({nn.Linear: one_operation})
        return config

    def lora_placement(self, model: PreTrainedModel) -> dict[str, Any]:
        """Return the placement, including experts and layers that PEFT takes for experts; it adapts both as parameters.

        A parameter that holds two matrices per expert gets twice the rank, so that each keeps the rank it had as a
        layer.
        """
        from ._peft.experts import read_as_experts

        layers, read_otherwise = apart(self.paths(model), read_as_experts(model))
        modules = [path for path, _ in model.named_modules()]
        parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        experts = self.experts(model)
        whole = {path: fused(path) for path in experts if fused(path) > 1}
        scale = math.sqrt if self.use_rslora else float
        names = [*names_for(experts, parameters), *(f"{path}.weight" for path in read_otherwise)]
        return self.placement(model) | {
            "target_modules": names_for(layers, modules),
            "target_parameters": names or None,
            "rank_pattern": {re.escape(path): self.r * parts for path, parts in whole.items()},
            "alpha_pattern": {re.escape(path): self.alpha * scale(parts) for path, parts in whole.items()},
        }

    def paths(self, model: PreTrainedModel) -> list[str]:
        """Return the paths of the layers to adapt.

        Layers that PEFT takes for experts can only be adapted as parameters; they are left out if the settings or a
        quantised base rule that out.
        """
        from ._peft.experts import read_as_experts

        every = super().paths(model)
        if not self._parameter_obstacle() and quantization_of(model.config) == "none":
            return every
        return apart(every, read_as_experts(model))[0]

    def expert_obstacle(self) -> str | None:
        """Return which setting keeps LoRA from adapting experts; None if none does."""
        return self._parameter_obstacle()

    def _parameter_obstacle(self) -> str | None:
        """Return which setting keeps LoRA from adapting parameters instead of layers; None if none does."""
        if self.use_dora:
            return "DoRA needs a layer, and experts are parameters: method.use_dora=false adapts them"
        if self.dropout:
            return "dropout needs a layer's input, and experts are parameters: method.dropout=0 adapts them"
        return None

    def attached(self, model: PeftModel, originals: list[tuple[Parameter, Tensor]]) -> PeftAttached:
        """Return the adapter with the initial values of A and B set."""
        from ._peft.lora_attached import LoraAttached

        attached = LoraAttached(model, originals)
        if self._from_weights:
            attached.begin_from_weights(self.init_lora_weights)
        elif self.init_lora_weights == "loftq":
            attached.begin_from_quantization_error()
        return attached

    def prepare(self, model: PeftModel, batches: Iterator[dict[str, object]]) -> None:
        """Initialise A from the data if `init_lora_weights` is eva."""
        if self.init_lora_weights == "eva":
            from ._peft.lora_attached import begin_from_data

            begin_from_data(model, batches)

    def adapts(self, module: nn.Module) -> bool:
        """Return whether a module is a linear layer or an embedding."""
        from torch import nn

        return isinstance(module, (*linear_classes(), nn.Embedding))

    def shape_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return the reasons why the initialisation is not possible here."""
        return self._initialisation_problems(model, quantization_of(config))

    def _initialisation_problems(self, model: PreTrainedModel, quantization: str) -> list[Problem]:
        """Check what the initial values need: pissa and olora an unquantised weight with sides of at least r, loftq a
        4-bit base, eva layers with inputs."""
        got, init = f"init_lora_weights: {self.init_lora_weights}", self.init_lora_weights
        if init == "loftq" and quantization not in ("nf4", "fp4"):
            what = "loftq compensates for quantising the base to 4 bits, and this base is not in 4 bits"
            return [
                Problem(
                    what,
                    f"{got}, quantization: {quantization}",
                    "model.quantization: nf4 or fp4",
                    "model.quantization=nf4",
                )
            ]
        if init == "eva" and (self.lora_placement(model)["target_parameters"]):
            what = "eva needs the inputs of layers, and experts, which PEFT adapts as parameters, have none"
            layers = ",".join(names_for(anatomy(model).attention, (p for p, _ in model.named_modules())))
            return [Problem(what, got, "layers outside experts", f"method.target_modules={layers}")]
        if not self._from_weights:
            return []
        if quantization != "none":
            what = f"{init} takes a part out of each weight of the base, which is not exact with quantised weights"
            remedy = "method.init_lora_weights=loftq or model.quantization=none"
            return [Problem(what, f"{got}, quantization: {quantization}", "quantization: none", remedy)]
        return _not_factorable(model, self.paths(model), self.r, got)


def _not_factorable(model: PreTrainedModel, paths: list[str], r: int, got: str) -> list[Problem]:
    """Return problems for layers whose weight cannot be split in two: an embedding, a tied head, or a side below r."""
    tokens = model.get_input_embeddings().weight
    linears = {path: model.get_submodule(path) for path in paths}
    unfit = [p for p, m in linears.items() if not isinstance(m, linear_classes()) or m.weight is tokens]
    small = [p for p, m in linears.items() if p not in unfit and r > min(m.weight.shape)]
    problems = []
    if unfit:
        what = "this initialisation splits a linear layer's own weight; embeddings and tied heads have none"
        problems.append(
            Problem(what, f"{got}, target {', '.join(unfit[:3])}", "linear layers inside the blocks")
        )
    if small:
        size = min(min(linears[path].weight.shape) for path in small)
        what = "this initialisation needs a rank no larger than the smallest side of a weight"
        problems.append(
            Problem(what, f"r: {r}, smallest side {size} ({small[0]})", f"r up to {size}", f"method.r={size}")
        )
    return problems
