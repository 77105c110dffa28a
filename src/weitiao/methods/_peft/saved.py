"""Reads adapters that were saved elsewhere: by older transformers, or with regular expressions for modules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...core.errors import ModelError, Problem
from .._checks import fully_matching

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

CONVERSION = "peft.utils.transformers_weight_conversion"
PATTERNS = ("rank_pattern", "alpha_pattern")
"""Settings whose keys are regular expressions."""
PREFIX = "base_model.model."
MATRIX = ".lora_A.weight"


def complete(config: PeftConfig, model: PreTrainedModel, stored: Collection[str]) -> None:
    """Adjust a saved adapter's settings, in place, so that PEFT reads them fast and completely on this model.

    A regular expression for modules is replaced by the paths it matches, within a time limit: raises ModelError beyond
    it. Layers that PEFT would drop, taking them for experts that became parameters, are named as parameters.
    """
    _limit_patterns(config, model)
    if config.to_dict().get("peft_type") != "LORA" or find_spec(CONVERSION) is None:
        return
    from .experts import read_as_experts

    taken, modules = read_as_experts(model), dict(model.named_modules())
    saved_on = {name.removeprefix(PREFIX).removesuffix(MATRIX) for name in stored if name.endswith(MATRIX)}
    dropped = [path for path in saved_on if path in modules and path.rpartition(".")[2] in taken]
    layers = [f"{path}.weight" for path in dropped if "weight" in _own_parameters(modules[path])]
    if layers:
        config.target_parameters = sorted({*(config.target_parameters or ()), *layers})


def _own_parameters(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters(recurse=False)}


def _limit_patterns(config: PeftConfig, model: PreTrainedModel) -> None:
    paths = [path for path, _ in model.named_modules() if path]
    settings = config.to_dict()
    for key in PATTERNS:
        for pattern in settings.get(key) or ():
            fully_matching(rf"(.*\.)?({pattern})", paths)
    for key in ("target_modules", "exclude_modules"):
        pattern = settings.get(key)
        if isinstance(pattern, str) and pattern.lower() != "all-linear":
            setattr(config, key, fully_matching(pattern, paths) or pattern)


def named_as_now(model: PeftModel, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an adapter's saved tensors under their current names on its model, with those of experts fused.

    `model` has an adapter with the same settings; up to transformers 4 each expert had layers of its own.
    """
    if find_spec(CONVERSION) is None:
        return dict(stored)
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

    config = next(iter(model.peft_config.values()))
    converted: dict[str, Tensor] = convert_peft_adapter_state_dict_for_transformers(
        model, config, dict(stored)
    )
    return converted


def require_names_kept(model: PeftModel, state: Mapping[str, Tensor]) -> None:
    """Raise ModelError if PEFT, reading an adapter with current names, would rename some to names that do not exist.

    transformers renames older weights by regular expressions, and one for Inkling also matches current names.
    """
    lost = sorted(state.keys() - named_as_now(model, state).keys())
    if lost:
        layers = sorted({name.removeprefix(PREFIX).partition(".lora_")[0] for name in lost})
        what = "PEFT would not find the adapters of these layers again, because transformers renames them on loading"
        expected = "layers that keep their names"
        raise ModelError(Problem(what, ", ".join(layers[:3]), expected, "method.target_modules without them"))
