"""A low-rank matrix beside each chosen linear layer; the model itself stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ..core.errors import Problem
from ..models.anatomy import anatomy, linear_classes
from ..models.precision import quantization_of
from ._checks import missing_names, module_table, modules_fully_matching, modules_matching
from ._peft import PeftAttached, PeftMethod

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import Tensor, nn
    from torch.nn import Parameter
    from transformers import PretrainedConfig, PreTrainedModel

INITIALISATIONS = re.compile(r"default|gaussian|pissa|pissa_niter_[1-9]\d*|olora|eva|loftq")
PLAIN_NAMES = re.compile(r"[\w.]+(\s*,\s*[\w.]+)*")
FROM_WEIGHTS = ("pissa", "olora")


class Lora(PeftMethod):
    """LoRA's settings, under PEFT's names without the prefix `lora_`."""

    title: ClassVar[str] = "LoRA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    formula: ClassVar[str] = "y = W x + (alpha / r) B A x"
    trains: ClassVar[str] = "A (r x in) and B (out x r) beside each chosen layer"
    when: ClassVar[str] = "The first thing to try: little memory, robust settings, merges without a trace."

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
        "lora_bias": "bias",
        "use_lora_bias": "bias",
        "rslora": "use_rslora",
        "dora": "use_dora",
        "init": "init_lora_weights",
        "pissa_init": "init_lora_weights",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=8, ge=1)
    """Rank of the added matrices: how many directions can change; 8 to 64 is usual."""
    alpha: float = Field(default=16, gt=0, allow_inf_nan=False)
    """Strength: the added part is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the inputs of A that is dropped while training."""
    target_modules: list[str] | str = "auto"
    """Which layers: auto (PEFT's choice for the architecture), all-linear, names (q_proj,v_proj) or a regular
    expression."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which of the model's biases train as well: none, all, or those of the chosen layers (lora_only)."""
    modules_to_save: list[str] = Field(default=[])
    """Modules trained whole beside the adapter, such as lm_head or embed_tokens."""
    use_rslora: bool = False
    """Rank-stabilised scaling alpha / sqrt(r), for high ranks (https://arxiv.org/abs/2312.03732)."""
    use_dora: bool = False
    """DoRA: the weight's length is trained apart from its direction; slower
    (https://arxiv.org/abs/2402.09353)."""
    init_lora_weights: str = "default"
    """How A and B begin: default, gaussian, pissa, pissa_niter_N (faster), olora, eva (from the data), loftq
    (4-bit bases)."""
    layers_to_transform: list[int] | None = None
    """Numbers of the blocks to adapt, the first is 0; left out, all of them."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _read_targets(cls, raw: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
        """Take `q_proj,v_proj` for the list it means; what holds other signs is a regular expression."""
        if not isinstance(raw, str) or raw in ("auto", "all-linear"):
            return raw
        return re.split(r"\s*,\s*", raw) if PLAIN_NAMES.fullmatch(raw) else raw

    @field_validator("target_modules")
    @classmethod
    def _check_targets(cls, targets: list[str] | str) -> list[str] | str:
        if not targets:
            raise ValueError("it names no module")
        if isinstance(targets, str) and targets != "all-linear":
            try:
                re.compile(targets)
            except re.error as error:
                raise ValueError(f"it is no regular expression: {error}") from error
        return targets

    @field_validator("modules_to_save", mode="before")
    @classmethod
    def _read_names(cls, raw: Any) -> Any:  # noqa: ANN401
        return re.split(r"\s*,\s*", raw) if isinstance(raw, str) else raw

    @field_validator("layers_to_transform", mode="before")
    @classmethod
    def _read_numbers(cls, raw: Any) -> Any:  # noqa: ANN401
        return [raw] if isinstance(raw, int) else raw

    @field_validator("init_lora_weights")
    @classmethod
    def _check_initialisation(cls, name: str) -> str:
        if not INITIALISATIONS.fullmatch(name):
            raise ValueError("it is none of default, gaussian, pissa, pissa_niter_N, olora, eva, loftq")
        return name

    @model_validator(mode="after")
    def _check_layers(self) -> Lora:
        if self.layers_to_transform is not None and self._pattern:
            raise ValueError(
                "layers_to_transform goes with names, not with a regular expression, which can say it itself"
            )
        return self

    @property
    def _pattern(self) -> str:
        """The regular expression, where `target_modules` is one."""
        is_pattern = isinstance(self.target_modules, str) and self.target_modules not in (
            "auto",
            "all-linear",
        )
        return str(self.target_modules) if is_pattern else ""

    @property
    def _from_weights(self) -> bool:
        return self.init_lora_weights.startswith(FROM_WEIGHTS)

    def targets(self, model: PreTrainedModel) -> list[str] | str:
        """Return the chosen layers for PEFT: last names or a regular expression."""
        if self.target_modules == "auto":
            return _architectures_own(model)
        if self.target_modules == "all-linear" and self.layers_to_transform is not None:
            return sorted({path.rpartition(".")[2] for path in anatomy(model).projections})
        return self.target_modules

    def peft_config(self, model: PreTrainedModel) -> LoraConfig:
        """Return PEFT's settings; initial values from weights or data are given by `attached` and `prepare`."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.targets(model),
            bias=self.bias,
            modules_to_save=self.modules_to_save or None,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            init_lora_weights="gaussian" if self.init_lora_weights == "gaussian" else True,
            layers_to_transform=self.layers_to_transform,
            fan_in_fan_out=_holds_transposed(model),
            task_type="CAUSAL_LM",
        )

    def attached(self, model: PeftModel, originals: list[tuple[Parameter, Tensor]]) -> PeftAttached:
        """Give A and B their initial values."""
        from ._peft_lora import LoraAttached

        attached = LoraAttached(model, originals)
        if self._from_weights:
            attached.begin_from_weights(self.init_lora_weights)
        elif self.init_lora_weights == "loftq":
            attached.begin_from_quantization_error()
        return attached

    def prepare(self, model: PeftModel, batches: Iterator[dict[str, object]]) -> None:
        """Initialise from the data where `init_lora_weights` is eva."""
        if self.init_lora_weights == "eva":
            from ._peft_lora import begin_from_data

            begin_from_data(model, batches)

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return every name that matches nothing, every block there is not, and what the initialisation
        cannot do."""
        found = self._target_problems(model) + missing_names(
            model, "method.modules_to_save", self.modules_to_save
        )
        found += self._layer_problems(model)
        return found or self._initialisation_problems(model, quantization_of(config))

    def _target_problems(self, model: PreTrainedModel) -> list[Problem]:
        targets = self.targets(model)
        if targets == "all-linear":
            return []
        if isinstance(targets, list):
            missing = missing_names(model, "method.target_modules", targets)
            return missing or _not_adaptable(
                model, [p for name in targets for p in modules_matching(model, name)]
            )
        paths = modules_fully_matching(model, targets)
        if not paths:
            what = "method.target_modules is a regular expression that matches no module from end to end"
            example = anatomy(model).attention[0]
            return [Problem(what, targets, module_table(model), f"a pattern for paths such as {example}")]
        return _not_adaptable(model, paths)

    def _layer_problems(self, model: PreTrainedModel) -> list[Problem]:
        count = len(anatomy(model).blocks)
        wrong = [n for n in self.layers_to_transform or [] if not 0 <= n < count]
        if not wrong:
            return []
        what = "method.layers_to_transform names blocks this model does not have"
        return [Problem(what, ", ".join(map(str, wrong)), f"0 to {count - 1}")]

    def _initialisation_problems(self, model: PreTrainedModel, quantization: str) -> list[Problem]:
        """Check what the initial values need: pissa and olora a whole weight of rank r or more, loftq a
        quantised one."""
        got, init = f"init_lora_weights: {self.init_lora_weights}", self.init_lora_weights
        if init == "loftq" and quantization not in ("nf4", "fp4"):
            what = "loftq makes up for what holding the base in 4 bits loses, and this base is not held so"
            return [
                Problem(
                    what,
                    f"{got}, quantization: {quantization}",
                    "model.quantization: nf4 or fp4",
                    "model.quantization=nf4",
                )
            ]
        if not self._from_weights:
            return []
        if quantization != "none":
            what = (
                f"{init} takes part of each weight out of the base; quantised weights cannot give it exactly"
            )
            remedy = "method.init_lora_weights=loftq or model.quantization=none"
            return [Problem(what, f"{got}, quantization: {quantization}", "quantization: none", remedy)]
        return _not_factorable(model, self._paths(model), self.r, got)

    def _paths(self, model: PreTrainedModel) -> list[str]:
        """Return the paths of every layer that will be adapted, whichever block."""
        targets = self.targets(model)
        if targets == "all-linear":
            return list(anatomy(model).projections)
        if isinstance(targets, list):
            return [path for name in targets for path in modules_matching(model, name)]
        return modules_fully_matching(model, targets)


def _architectures_own(model: PreTrainedModel) -> list[str] | str:
    """Return PEFT's choice for an architecture; for one it does not know, the attention's projections."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    known = KNOWN.get(model.config.model_type)
    return known or sorted({path.rpartition(".")[2] for path in anatomy(model).attention})


def _holds_transposed(model: nn.Module) -> bool:
    """Whether the model's layers are Conv1D, which hold in x out."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def _not_adaptable(model: nn.Module, paths: list[str]) -> list[Problem]:
    """Return a problem where a name means something else than a layer with a weight matrix."""
    from torch import nn

    kinds = (*linear_classes(), nn.Embedding)
    other = {
        p.rpartition(".")[2]: model.get_submodule(p)
        for p in paths
        if not isinstance(model.get_submodule(p), kinds)
    }
    return [
        Problem("method.target_modules names a module that is no linear or embedding layer",
                f"{name} ({type(module).__name__})", module_table(model))
        for name, module in other.items()
    ]  # fmt: skip


def _not_factorable(model: PreTrainedModel, paths: list[str], r: int, got: str) -> list[Problem]:
    """Return a problem for each layer whose weight cannot be split in two: an embedding, a shared or a small
    one."""
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
