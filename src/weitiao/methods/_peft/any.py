"""Any further method that PEFT has, under its own name and with PEFT's own settings: `peft:c3a`, `peft:boft`.

The class of such a method is generated from PEFT's config, and PEFT checks the values. Its help texts are general, and
it has been tried on small models only.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_type_hints

from pydantic import Field, create_model, model_validator

from ...core.errors import Problem, SettingsError, nearest
from ...core.settings import Unfit
from ...models.load import weightless_like
from .. import METHODS
from .attached import refused_by_peft
from .quiet import renamed_in_transformers
from .targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, holds_transposed, shapes

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel

FILES_BY_OTHER_NAMES = {"adaption_prompt": "llama_adapter"}
"""PEFT's names -> ours, where they differ."""
NEEDS_MORE = {
    "adamss": "it clusters the weights when it is attached, so nothing can be planned before they are loaded",
    "cartridge": "it distils the keys and values of a long text, which needs another kind of training",
    "cpt": "it needs each token of the prompt marked as context, instruction or answer",
    "frod": "it decomposes weights when it is attached, so nothing can be planned before they are loaded",
    "multitask_prompt_tuning": "it needs the task that each row belongs to",
    "poly": "it needs the task that each row belongs to",
    "shadow": "part of its loss is computed inside the model, and the objectives here do not add it",
    "xlora": "it mixes adapters that were trained before",
}
"""Methods of PEFT that an ordinary run cannot train, with the reason."""
PLACEMENT = ("target_modules", "modules_to_save", "layers_to_transform")
"""The settings that mean the same as for our own methods."""
PEFT_REFUSALS = (ValueError, TypeError, RuntimeError, NotImplementedError)
"""What PEFT raises if a method does not fit a model, or its settings do not fit each other."""
WHAT_THEY_ARE = {
    "beft": (
        "scales and biases",
        "Trains biases that are added to the value projections; for little data.",
    ),
    "boft": (
        "rotations",
        "The weight is rotated by a product of sparse orthogonal matrices in butterfly form.",
    ),
    "c3a": ("low rank", "The change is a circular convolution: one row of each block determines the others."),
    "deft": (
        "low rank",
        "Replaces a few directions of the weight with learnt ones.",
    ),
    "fourierft": ("low rank", "The change is the inverse Fourier transform of a few trained coefficients."),
    "glora": ("low rank", "Weights and biases are scaled and shifted, each by low-rank or smaller parts."),
    "gralora": ("low rank", "The weight is cut into blocks, and each block gets its own LoRA."),
    "hra": (
        "rotations",
        "The weight is reflected in a chain of trained directions (Householder reflections).",
    ),
    "lily": ("low rank", "LoRA's matrices are shared across blocks, and a router mixes the B matrices."),
    "osf": (
        "own weights",
        "The weight's large singular directions stay fixed; the rest is trained, orthogonal to them.",
    ),
    "peanut": ("small networks", "A small network reads the weight and computes its change."),
    "psoft": (
        "rotations",
        "An orthogonal matrix rotates the weight within its largest singular directions only.",
    ),
    "pvera": (
        "low rank",
        "VeRA with random draws: the adapter learns a distribution instead of fixed numbers.",
    ),
    "randlora": (
        "low rank",
        "Many frozen random low-rank matrices are summed, with trained scales, to a full-rank change.",
    ),
    "supertuning": (
        "own weights",
        "Trains the entries of the weight that are chosen by their magnitude; all others stay frozen.",
    ),
    "tinylora": (
        "low rank",
        "Frozen random tensors spread a tiny trained vector over the weight's singular directions.",
    ),
    "unilora": ("low rank", "All LoRA matrices of the model are generated from one trained vector."),
    "vblora": (
        "low rank",
        "LoRA's matrices are assembled from one bank of vectors that all layers share.",
    ),
    "waveft": ("low rank", "The change is the inverse wavelet transform of a few trained coefficients."),
}
"""The family of each of PEFT's tuners that can be trained here, and a sentence on what it does."""
LARGEST_SIZE = 4096
SIZES_TRIED = 4
"""How many sizes near the refused one are tried; each try builds the model once more, without weights."""
DRAWING = """\
x
├───────────────┐
W   frozen      what PEFT adds   trained
└───── + ───────┘
       y"""


class AnyPeft(TargetedMethod):
    """Base class of the methods generated from PEFT's configs."""

    paper: ClassVar[str] = "https://huggingface.co/docs/peft"
    formula: ClassVar[str] = "see PEFT's documentation"
    trains: ClassVar[str] = "what PEFT adds to each chosen layer"
    merges: ClassVar[bool | None] = None
    share: ClassVar[str] = "unknown"
    inference_cost: ClassVar[str] = "unknown"
    memory: ClassVar[str] = "unknown"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "To try a PEFT method that weitiao has no file for; compare it with lora."
    on_quantized: ClassVar[bool] = False
    config_class: ClassVar[type[PeftConfig]]
    """PEFT's config class of the method."""

    @property
    def name(self) -> str:
        """`peft:` and PEFT's name in lower case."""
        return f"peft:{self.peft_type.lower()}"

    @model_validator(mode="after")
    def _check_with_peft(self) -> AnyPeft:
        try:
            self._config(target_modules=["any"])
        except (TypeError, ValueError) as error:
            raise Unfit(str(error), "values that PEFT accepts", f"weitiao methods {self.name}") from error
        return self

    def _config(self, **placement: Any) -> PeftConfig:  # noqa: ANN401  (settings of any type)
        own = {name: value for name, value in self if name not in PLACEMENT}
        return self.config_class(**own, **placement)

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Return PEFT's config."""
        fields = {field.name for field in dataclasses.fields(cast("Any", self.config_class))}
        layout = {"fan_in_fan_out": holds_transposed(model)} if "fan_in_fan_out" in fields else {}
        return self._config(**self.placement(model), **layout)

    def shape_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return PEFT's reason if it cannot put the method on a model of this shape."""
        try:
            _put_on(model, self.peft_config(model))
        except PEFT_REFUSALS as error:
            what = f"{self.name} cannot be applied to this model with these settings"
            key, fit = self._sizes_that_fit(model)
            if not fit:
                return [refused_by_peft(what, error)]
            expected = f"{key}: for example {', '.join(map(str, fit))}"
            return [refused_by_peft(what, error, expected, f"method.{key}={fit[0]}")]
        return []

    def _sizes_that_fit(self, model: PreTrainedModel) -> tuple[str, list[int]]:
        """Return the setting that may be the cause, and values of it that PEFT accepts: divisors of all layers'
        widths."""
        sizes = shapes(model, self.paths(model)).values()
        common = math.gcd(*(width for both in sizes for width in both))
        divisors = [n for n in range(2, min(common, LARGEST_SIZE) + 1) if common % n == 0]
        counts = {key: n for key, n in self if isinstance(n, int) and not isinstance(n, bool) and n > 1}
        for key in sorted(counts, key=lambda name: name not in self.model_fields_set):
            nearby = sorted(divisors, key=lambda n: abs(n - counts[key]))[:SIZES_TRIED]
            fit = [n for n in nearby if self._can_be_put_on(model, {key: n})]
            if fit:
                return key, fit
        return "", []

    def _can_be_put_on(self, model: PreTrainedModel, changes: dict[str, Any]) -> bool:
        try:
            _put_on(model, self.model_copy(update=changes).peft_config(model))
        except PEFT_REFUSALS:
            return False
        return True


def _put_on(model: PreTrainedModel, config: PeftConfig) -> None:
    """Put PEFT's method on a weightless model of the same shape; raises what PEFT raises."""
    from peft import get_peft_model

    with renamed_in_transformers():
        get_peft_model(weightless_like(model), config)


def names() -> list[str]:
    """Return what can follow `peft:`, sorted: PEFT's methods that have no file here and that an ordinary run can
    train."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    every = {key.value.lower() for key in PEFT_TYPE_TO_CONFIG_MAPPING if isinstance(key, PeftType)}
    return sorted(every - {*METHODS.names(), *FILES_BY_OTHER_NAMES, *NEEDS_MORE})


@cache
def method_of(name: str) -> type[AnyPeft]:
    """Return the class of a PEFT method; raises SettingsError if it has a file here, cannot be trained, or is
    unknown."""
    file = FILES_BY_OTHER_NAMES.get(name, name)
    if file in METHODS.names():
        what = f"{name} is one of weitiao's own methods, with documented settings"
        raise SettingsError(Problem(what, f"peft:{name}", f"method: {file}", f"method={file}"))
    if name in NEEDS_MORE:
        expected = "one of " + ", ".join(f"peft:{other}" for other in names())
        what = f"peft:{name} cannot be trained here: {NEEDS_MORE[name]}"
        raise SettingsError(Problem(what, f"peft:{name}", expected, "weitiao methods"))
    if name not in names():
        known = [f"peft:{other}" for other in names()]
        near = " or ".join(f"peft:{other}" for other in nearest(name, names())) or "weitiao methods"
        what = f"there is no PEFT method called {name!r}"
        raise SettingsError(Problem(what, f"peft:{name}", "one of " + ", ".join(known), near))
    return _made(name)


def _made(name: str) -> type[AnyPeft]:
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config: type[PeftConfig] = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name.upper())]
    fields = _fields(config)
    made = create_model(
        f"Peft{config.__name__.removesuffix('Config')}",
        __base__=AnyPeft,
        __module__=__name__,
        __doc__=WHAT_THEY_ARE[name][1],
        **fields,
        target_modules=(TargetModules, "auto"),
        modules_to_save=(ModuleNames, []),
        layers_to_transform=(BlockNumbers, None),
    )
    made.title = f"{config.__name__.removesuffix('Config')} (PEFT's own)"
    made.family = WHAT_THEY_ARE[name][0]
    made.peft_type = name.upper()
    made.config_class = config
    return made


def _fields(config: type[PeftConfig]) -> dict[str, Any]:
    """Return PEFT's own settings of one method as pydantic's fields, except those that every method has."""
    from peft import PeftConfig

    common = {field.name for field in dataclasses.fields(cast("Any", PeftConfig))}
    left_out = {*common, *PLACEMENT, "fan_in_fan_out"}
    types = get_type_hints(config)
    return {
        field.name: (types[field.name], _with_default(field))
        for field in dataclasses.fields(cast("Any", config))
        if field.name not in left_out
    }


def _with_default(field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401  (what pydantic's Field gives)
    help_text = field.metadata.get("help") or "PEFT's setting with this name."
    whole = help_text if isinstance(help_text, str) else " ".join(help_text)
    text = " ".join(whole.split())
    if field.default_factory is not dataclasses.MISSING:
        return Field(default_factory=field.default_factory, description=text)
    return Field(default=field.default, description=text)
