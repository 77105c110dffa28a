"""Which layers an adapter is put on: the settings, resolved for one model, and what is wrong with them."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ...core.errors import Problem
from ...core.lists import read_numbers
from ...core.settings import LEFT_OUT, Unfit
from ...models.anatomy import (
    Anatomy,
    anatomy,
    head_to_save,
    is_inside,
    linear_classes,
    sides,
    task_type,
    transposed_paths,
)
from ...models.precision import quantization_of
from ...models.text_path import text_path
from .._alternatives import DoesNotApply
from .._checks import missing_names, module_table, modules_fully_matching, modules_matching
from .._experts import experts_named, experts_of, halves_named, names_for
from .._untouched import left_untouched, packed_in_part
from .attached import PeftMethod

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

PLAIN_NAMES = re.compile(r"[\w.]+(\s*,\s*[\w.]+)*")


def read_targets(raw: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
    """Return the list that `q_proj,v_proj` stands for; a text with other characters is a regular expression."""
    if not isinstance(raw, str) or raw in ("auto", "all-linear"):
        return raw
    return re.split(r"\s*,\s*", raw) if PLAIN_NAMES.fullmatch(raw) else raw


def _check_targets(targets: list[str] | str) -> list[str] | str:
    if not targets:
        raise Unfit(
            "it names no module", "auto, all-linear, names or a pattern", "method.target_modules=auto"
        )
    if isinstance(targets, str) and targets != "all-linear":
        try:
            re.compile(targets)
        except re.error as error:
            expected = "auto, all-linear, names with commas, or a regular expression"
            raise Unfit(
                f"it is not a regular expression: {error}", expected, "method.target_modules=auto"
            ) from error
    return targets


def _read_names(raw: Any) -> Any:  # noqa: ANN401
    return re.split(r"\s*,\s*", raw) if isinstance(raw, str) else raw


def _check_blocks(numbers: list[int] | None) -> list[int] | None:
    """Reject an empty list, which PEFT takes for all blocks."""
    if numbers is not None and not numbers:
        expected = "numbers of blocks (0,1 or 0-3), or null for all of them"
        raise Unfit("it names no block", expected, "leave method.layers_to_transform out")
    return numbers


TargetModules = Annotated[
    list[str] | str,
    BeforeValidator(read_targets),
    AfterValidator(_check_targets),
    Field(
        description="Layers to adapt: auto (PEFT's choice for the architecture), all-linear, names (q_proj,v_proj) "
        "or a regular expression."
    ),
]
ModuleNames = Annotated[
    list[str],
    BeforeValidator(_read_names),
    Field(description="Modules to train in full alongside the adapter, such as lm_head or embed_tokens."),
]
BlockNumbers = Annotated[
    list[int] | None,
    BeforeValidator(read_numbers),
    AfterValidator(_check_blocks),
    Field(
        description="Blocks to adapt, by number (0,1 or 0-3), counted from 0. Default: all of them.",
        json_schema_extra={LEFT_OUT: "(all)"},
    ),
]


class TargetedMethod(PeftMethod):
    """A PEFT method on chosen layers. A subclass declares the three settings below among its own."""

    if TYPE_CHECKING:  # declared without values, so that each class has its settings in its own order
        target_modules: TargetModules
        modules_to_save: ModuleNames
        layers_to_transform: BlockNumbers

    peft_type: ClassVar[str]
    """The method's key in PEFT's tables."""
    adapted_kind: ClassVar[str] = "linear layer"
    """What a target must be, in words; `adapts` checks it."""

    @model_validator(mode="after")
    def _check_layers(self) -> TargetedMethod:
        if self.layers_to_transform is not None and self._pattern:
            raise Unfit(
                "layers_to_transform works with names, not with a regular expression, which can choose blocks itself",
                "names, or a regular expression with the blocks' numbers in it",
                "method.target_modules=auto or leave layers_to_transform out",
            )
        return self

    @property
    def _pattern(self) -> str:
        """The regular expression, if `target_modules` is one; else empty."""
        is_pattern = isinstance(self.target_modules, str) and self.target_modules not in (
            "auto",
            "all-linear",
        )
        return str(self.target_modules) if is_pattern else ""

    def own_targets(self, model: PreTrainedModel) -> list[str] | str:
        """Return PEFT's choice for an architecture; for an unknown one, the projections of the attention, and without
        attention those of the blocks."""
        known = self.known_targets().get(model.config.model_type)
        parts = anatomy(model)
        if isinstance(known, list | tuple | set):
            passed = _passed(model, parts)
            known = [name for name in known if any(map(passed, modules_matching(model, name)))]
        return known or last_names(parts.attention or parts.projections)

    def known_targets(self) -> Mapping[str, list[str] | str]:
        """Return PEFT's table: architecture -> the modules that this method adapts in it."""
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

        table: Mapping[str, list[str] | str] = PEFT_TYPE_TO_TUNER_MAPPING[
            self.peft_type
        ].target_module_mapping
        return table

    def wanted(self, model: PreTrainedModel) -> list[str] | str:
        """Return what to adapt, as set or chosen by default: names, a regular expression or `all-linear`."""
        return self.own_targets(model) if self.target_modules == "auto" else self.target_modules

    def expert_obstacle(self) -> str | None:
        """Return why the method does not adapt the experts of a mixture; None if it does."""
        return f"{self.name} adapts layers, and experts are parameters"

    def paths(self, model: PreTrainedModel) -> list[str]:
        """Return the paths of the layers to adapt: those that a forward pass over text calls."""
        return self._in_blocks(model, passed_by_text(model, paths_of(model, self.wanted(model))))

    def experts(self, model: PreTrainedModel) -> list[str]:
        """Return the paths of the experts' parameters to adapt."""
        wanted = self.wanted(model)
        if self.expert_obstacle() or (self._is_auto and isinstance(wanted, list)):
            return []  # a layer that auto chooses may have the name of an expert's matrix
        return self._in_blocks(model, experts_of(model, wanted))

    def _in_blocks(self, model: PreTrainedModel, paths: list[str]) -> list[str]:
        if self.layers_to_transform is None:
            return paths
        parts, wanted = anatomy(model), set(self.layers_to_transform)
        return [path for path in paths if parts.block_of(path) in wanted]

    def targets(self, model: PreTrainedModel) -> list[str]:
        """Return the chosen layers as names that PEFT matches to exactly these."""
        return names_for(self.paths(model), [path for path, _ in model.named_modules()])

    def left_out(self, model: PreTrainedModel) -> list[str]:
        """Return sentences on the experts, routers and uncalled layers that stay unchanged, with their share."""
        found = self._in_blocks(model, passed_by_text(model, paths_of(model, self.wanted(model))))
        dropped = set(found) - set(self.paths(model))
        sentences = left_untouched(model, self.experts(model), self.expert_obstacle(), dropped)
        return sentences + packed_in_part(model)

    def placement(self, model: PreTrainedModel) -> dict[str, Any]:
        """Return the arguments that the PEFT configs of all such methods take."""
        return {
            "target_modules": self.targets(model),
            "modules_to_save": [*self.modules_to_save, *head_to_save(model)] or None,
            "task_type": task_type(model),
        }

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return every name that matches nothing, every block that does not exist, and what the method cannot adapt."""
        found = self._target_problems(model) + missing_names(
            model, "method.modules_to_save", self.modules_to_save
        )
        found += self._layer_problems(model) + self.quantized_problems(quantization_of(config))
        found += self._packed_problems(model, quantization_of(config))
        transposed = transposed_paths(model) & set(self.paths(model))
        return found or self.transposed_problems(model, transposed) or self.shape_problems(model, config)

    def shape_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return what is wrong with the settings on the chosen layers; most methods fit any."""
        return []

    def _target_problems(self, model: PreTrainedModel) -> list[Problem]:
        wanted = self.wanted(model)
        found = paths_of(model, wanted)
        if not (passed_by_text(model, found) or self.experts(model)) and (
            wanted in ("all-linear", []) or self._is_auto
        ):
            what = f"{self.name} finds no {self.adapted_kind} to adapt in this architecture's blocks"
            return [DoesNotApply(what, type(model).__name__)]
        if isinstance(wanted, list):
            unknown = [name for name in wanted if not self._means_something(model, name)]
            if unknown:
                return self._expert_problems(model, unknown) or missing_names(
                    model, "method.target_modules", unknown
                )
        elif not found and not self.experts(model):
            what = "method.target_modules is a regular expression that matches no module's full path"
            example = next(iter(anatomy(model).projections), "model.layers.0")
            return [Problem(what, wanted, module_table(model), f"a pattern for paths such as {example}")]
        return self._half_fused(model) + self._not_adaptable(model, found)

    @property
    def _is_auto(self) -> bool:
        return self.target_modules == "auto"

    def _means_something(self, model: PreTrainedModel, name: str) -> bool:
        """Return whether a name matches a module, or experts that this method adapts."""
        if modules_matching(model, name):
            return True
        return bool(experts_named(model, name)) and not self.expert_obstacle()

    def _expert_problems(self, model: PreTrainedModel, names: list[str]) -> list[Problem]:
        """Return a problem if names match experts only, which the method does not adapt with its settings."""
        named = [name for name in names if experts_named(model, name)]
        obstacle = self.expert_obstacle()
        if not named or obstacle is None:
            return []
        what = f"method.target_modules names experts, which cannot be adapted: {obstacle}"
        expected = "some of " + ", ".join(last_names(anatomy(model).projections))
        return [Problem(what, ", ".join(named), expected, "method.target_modules=all-linear or method=lora")]

    def _half_fused(self, model: PreTrainedModel) -> list[Problem]:
        """Return a problem if a name matches one half of a parameter that holds two matrices per expert."""
        wanted = self.wanted(model)
        if not isinstance(wanted, list) or self._is_auto or self.expert_obstacle():
            return []
        halves = {path: halves_named(path, wanted) for path in experts_of(model, wanted)}
        half = sorted({path.rpartition(".")[2] for path, names in halves.items() if len(names) == 1})
        if not half:
            return []
        what = "the experts of this model hold two matrices as one parameter, which is adapted as a whole or not at all"
        got = (
            f"{', '.join(sorted({name for names in halves.values() for name in names}))} of {', '.join(half)}"
        )
        return [Problem(what, got, "both names, or neither", "method.target_modules=all-linear")]

    def _layer_problems(self, model: PreTrainedModel) -> list[Problem]:
        count = anatomy(model).depth
        wrong = [n for n in self.layers_to_transform or [] if not 0 <= n < count]
        if not wrong:
            return []
        what = "method.layers_to_transform names blocks this model does not have"
        return [Problem(what, ", ".join(map(str, wrong)), f"0 to {count - 1}")]

    def _packed_problems(self, model: PreTrainedModel, quantization: str) -> list[Problem]:
        """Return a problem if a module to be trained in full contains quantised layers."""
        if quantization == "none":
            return []
        packed = packed_layers(model)
        named = {name: modules_matching(model, name) for name in self.modules_to_save}
        wrong = [
            name
            for name, places in named.items()
            if any(is_inside(path, place) for path in packed for place in places)
        ]
        if not wrong:
            return []
        what = "method.modules_to_save names layers with quantised weights, which cannot be trained in full"
        got = f"{', '.join(wrong)}, model.quantization: {quantization}"
        expected = "modules that are not quantised: the head, embeddings and norms"
        return [
            Problem(what, got, expected, f"method.target_modules with {wrong[0]}, or model.quantization=none")
        ]

    def adapts(self, module: nn.Module) -> bool:
        """Return whether a module is of the kind that the method adapts."""
        return isinstance(module, linear_classes())

    def choice(self, model: PreTrainedModel) -> str:
        """Return the modules to choose from, for an error message."""
        return module_table(model)

    def _not_adaptable(self, model: PreTrainedModel, paths: list[str]) -> list[Problem]:
        """Return a problem if a name matches only layers that no adapter can change, or a module the method does not
        adapt."""
        kept = set(passed_by_text(model, paths))
        left_out = sorted(set(last_names(paths)) - set(last_names(kept)))
        if left_out and not self._is_auto:
            what = (
                "method.target_modules names layers that an adapter cannot change: routers of experts, or layers "
                "that a text does not pass through or whose weights are read without calling them"
            )
            expected = "some of " + ", ".join(last_names(anatomy(model).projections))
            return [Problem(what, ", ".join(left_out), expected, "method.target_modules=all-linear")]
        modules = {path.rpartition(".")[2]: model.get_submodule(path) for path in paths if path in kept}
        what = f"method.target_modules names a module that is not a {self.adapted_kind}"
        return [
            Problem(what, f"{name} ({type(module).__name__})", self.choice(model))
            for name, module in modules.items()
            if not self.adapts(module)
        ]

    @abstractmethod
    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Return PEFT's config of this method for this model."""


def last_names(paths: Iterable[str]) -> list[str]:
    """Return the last segments of some paths, sorted, each once."""
    return sorted({path.rpartition(".")[2] for path in paths})


def paths_of(model: PreTrainedModel, targets: list[str] | str) -> list[str]:
    """Return the paths of the modules that `targets` matches on a model, in no particular order."""
    if targets == "all-linear":
        return list(anatomy(model).projections)
    if isinstance(targets, list):
        return list(dict.fromkeys(path for name in targets for path in modules_matching(model, name)))
    return modules_fully_matching(model, targets)


def passed_by_text(model: PreTrainedModel, paths: Iterable[str]) -> list[str]:
    """Return those of some paths that a forward pass over text calls and that an adapter can be put on."""
    return list(filter(_passed(model, anatomy(model)), paths))


def _passed(model: PreTrainedModel, parts: Anatomy) -> Callable[[str], bool]:
    """Return a function that tells whether a text passes a path on which an adapter can be put."""
    texts, left_out = text_path(model), set(parts.off_path)
    return lambda path: texts.passes(path) and path not in left_out


def packed_layers(model: PreTrainedModel) -> list[str]:
    """Return the paths of the layers that are packed in a quantised base: all linear ones but the head."""
    head = anatomy(model).head
    weights = {
        path: module.get_parameter("weight")
        for path, module in model.named_modules()
        if isinstance(module, linear_classes()) and path != head
    }
    return [path for path, weight in weights.items() if weight.is_meta or not weight.is_floating_point()]


def shapes(model: nn.Module, paths: list[str]) -> dict[str, tuple[int, int]]:
    """Return (in, out) of linear layers, by path; for packed weights, the sizes before packing."""
    layers = {path: model.get_submodule(path) for path in paths}
    return {path: sides(layer) for path, layer in layers.items() if isinstance(layer, linear_classes())}


def holds_transposed(model: nn.Module) -> bool:
    """Return whether the model has Conv1D layers, which store their weights as in x out."""
    return bool(transposed_paths(model))
