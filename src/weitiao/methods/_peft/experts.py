"""Finds the layers that PEFT takes for experts of a mixture, which became parameters in transformers 5."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .._experts import KIND, OLDER_NAMES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONVERSION = "peft.utils.transformers_weight_conversion"
MAYBE_EXPERTS = (*(f"{word}_{KIND}" for word in ("gate", "up", "down")), *OLDER_NAMES, "gate")
"""Last names of layers that PEFT may take for experts or their router, depending on the architecture."""


def read_as_experts(model: PreTrainedModel) -> frozenset[str]:
    """Return the last names of layers that PEFT takes for experts on this model, even if they are not.

    PEFT goes by the name alone, also for dense first layers and shared experts: as target modules they would be
    dropped. As target parameters they are adapted, under the same tensor names.
    """
    if find_spec(CONVERSION) is None:
        return frozenset()
    return _read_as_experts(str(model.config.model_type))


@cache
def _read_as_experts(model_type: str) -> frozenset[str]:
    return frozenset(name for name in MAYBE_EXPERTS if _is_taken(name, model_type))


def _is_taken(name: str, model_type: str) -> bool:
    """Return whether PEFT drops a layer's name from its targets on an architecture, or refuses it without its other
    half."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config = LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(config, _Named(model_type), None)
    except ValueError:
        return True
    return name not in (config.target_modules or ())


class _Named:
    """Replaces a model where only the architecture's name is read."""

    def __init__(self, model_type: str) -> None:
        self.config = self
        self.model_type = model_type
