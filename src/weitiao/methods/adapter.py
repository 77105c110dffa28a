"""A small two-layer network behind each sublayer of each block; the model itself stays as it is.

Placement: Houlsby puts two adapters into a block, one on the output of attention's output projection and one on the
output of the feed-forward's last projection; Pfeiffer only the latter; both before the residual sum. A parallel adapter
reads the input of the feed-forward and adds to its output. The papers' BERT normalises after the residual sum; in a
model that normalises before the sublayer (Llama, GPT-2), the adapter's output reaches the residual stream unnormalised.
If a model also normalises the output of a sublayer (Gemma 2, OLMo 2), the adapter comes before that norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.errors import Problem
from ..core.settings import Unfit, left_out
from ..models.anatomy import Anatomy, anatomy, head_to_save, is_inside, task_type
from ._alternatives import DoesNotApply
from ._peft.attached import PeftMethod
from ._peft.targets import shapes

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

    from ._layers.adapter import AdapterConfig
    from ._layers.base import OwnTuner

DEFAULT_REDUCTION = 16

DRAWING = """\
each block:
x ─┬─ attention ─ ADAPTER ─ + ─┬─ feed-forward ─ ADAPTER ─ + ─ y
   └────────────────────────┘  └───────────────────────────┘
attention, feed-forward and norms    frozen

ADAPTER, of size m:
h ─┬─ W_down ─ f ─ W_up ─ + ─        W_down   m x d   trained
   └──────────────────────┘          W_up     d x m   trained,
                                              begins at 0"""


class Adapter(PeftMethod):
    """Settings of bottleneck adapters: where they are and how wide."""

    title: ClassVar[str] = "Bottleneck adapter"
    paper: ClassVar[str] = "https://arxiv.org/abs/1902.00751"
    formula: ClassVar[str] = "y = h + s (W_up f(W_down h + b_down) + b_up)"
    trains: ClassVar[str] = (
        "W_down (m x d), W_up (d x m) and biases in each block: 2md + d + m parameters per adapter"
    )
    family: ClassVar[str] = "small networks"
    share: ClassVar[str] = "1.6 %"
    inference_cost: ClassVar[str] = "two small networks per block"
    memory: ClassVar[str] = "medium: it has many parameters"
    drawing: ClassVar[str] = DRAWING
    merges: ClassVar[bool] = False
    when: ClassVar[str] = (
        "When LoRA's linear change is not enough and slightly slower generation is acceptable."
    )
    suggested_lr: ClassVar[float] = 1e-3

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "bottleneck_size": "size",
        "adapter_size": "size",
        "non_linearity": "activation",
        "use_parallel_adapter": "placement",
        "adapter_type": "placement",
        "ln_after": "train_norms",
        "scale": "scaling",
    }

    placement: Literal["houlsby", "pfeiffer", "parallel"] = "houlsby"
    """Where to put the adapters: two in each block (houlsby, https://arxiv.org/abs/1902.00751), one after the
    feed-forward (pfeiffer, https://arxiv.org/abs/2005.00247), or one beside it (parallel,
    https://arxiv.org/abs/2110.04366)."""
    size: int | None = left_out("(the width / reduction_factor)", ge=1)
    """Width m of the bottleneck, instead of `reduction_factor`."""
    reduction_factor: float | None = left_out("16", ge=1, allow_inf_nan=False)
    """The model's width divided by the bottleneck's; 16 if neither this nor `size` is given."""
    activation: Literal["gelu", "relu", "silu", "tanh"] = "gelu"
    """Activation function f between the two projections."""
    scaling: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Scale s of the adapter's output; the paper on parallel adapters uses 4."""
    up_std: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Standard deviation of W_up's initial values. With 0, training starts exactly at the base; Houlsby's paper
    uses 0.01."""
    train_norms: bool = False
    """Train the normalisation layers too, as Houlsby's paper does."""

    @model_validator(mode="after")
    def _check_size(self) -> Adapter:
        if self.size is not None and self.reduction_factor is not None:
            reason = "size and reduction_factor both set the width of the bottleneck"
            raise Unfit(reason, "one of them", "leave method.reduction_factor out")
        return self

    @classmethod
    def tuner(cls) -> type[OwnTuner]:
        """Return the class that puts the layers on a model."""
        from ._layers.adapter import AdapterTuner

        return AdapterTuner

    def peft_config(self, model: PreTrainedModel) -> AdapterConfig:
        """Return PEFT's config, with every chosen module by its path."""
        from ._layers.adapter import AdapterConfig

        parts = anatomy(model)
        norms = [*parts.block_norms, *parts.outer_norms]
        width = _width(model)
        return AdapterConfig(
            target_modules=self._places(model, parts)[0],
            modules_to_save=[*(norms if self.train_norms else ()), *head_to_save(model)] or None,
            width=width,
            size=self.size or max(1, int(width / (self.reduction_factor or DEFAULT_REDUCTION))),
            activation=self.activation,
            scaling=self.scaling,
            up_std=self.up_std,
            parallel=self.placement == "parallel",
            task_type=task_type(model),
        )

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem if a block has no place for an adapter."""
        return self._places(model, anatomy(model))[1]

    def _places(self, model: PreTrainedModel, parts: Anatomy) -> tuple[list[str], list[Problem]]:
        """Return the paths of the modules that adapters are put on, and what prevents that."""
        places: list[str] = []
        for block in parts.blocks:
            attention = [path for path in parts.attention if is_inside(path, block)]
            mlp = [path for path in parts.mlp if is_inside(path, block)]
            if self.placement == "parallel":
                found = [_whole_module(model, block, mlp)]
            else:
                chosen = [attention, mlp] if self.placement == "houlsby" else [mlp]
                found = [_last_onto(model, paths, _width(model)) for paths in chosen]
            if None in found or _has_experts(model.get_submodule(block)):
                return [], [self._no_place(model, block)]
            places += [path for path in found if path is not None]
        return places, []

    def _no_place(self, model: PreTrainedModel, block: str) -> Problem:
        needs = {
            "houlsby": "one attention and one feed-forward, each with a last projection onto the model's width",
            "pfeiffer": "one feed-forward with a last projection onto the model's width",
            "parallel": "one feed-forward that is a single module, which houlsby and pfeiffer do not need",
        }
        return DoesNotApply(
            f"this architecture's blocks have no place for adapters ({self.placement})",
            f"{type(model).__name__}, {block}",
            needs[self.placement],
            "method.placement=pfeiffer" if self.placement == "parallel" else "",
        )


def _width(model: PreTrainedModel) -> int:
    """Return d, the width of the model's residual stream."""
    return int(model.config.get_text_config().hidden_size)


def _last_onto(model: nn.Module, paths: list[str], width: int) -> str | None:
    """Return the last of some layers whose output is as wide as the model."""
    fitting = [path for path, (_, out) in shapes(model, paths).items() if out == width]
    return fitting[-1] if fitting else None


def _whole_module(model: nn.Module, block: str, paths: list[str]) -> str | None:
    """Return the one child of a block that contains all of some layers, is none of them and is no list; else None."""
    from torch import nn

    children = {f"{block}.{path.removeprefix(f'{block}.').partition('.')[0]}" for path in paths}
    if len(children) != 1 or children & set(paths):
        return None
    child = children.pop()
    return None if isinstance(model.get_submodule(child), nn.ModuleList) else child


def _has_experts(block: nn.Module) -> bool:
    """Return whether a block has several feed-forwards to choose from: a list of equal modules, or 3-D weights."""
    from torch import nn

    lists = any(
        isinstance(module, nn.ModuleList) and len(module) > len({type(child) for child in module})
        for module in block.modules()
    )
    return lists or any(parameter.dim() == 3 for parameter in block.parameters())
