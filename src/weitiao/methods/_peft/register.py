"""Registers our own methods with PEFT: the only place that writes into PEFT's tables.

PEFT's `register_peft_method` accepts only names of its own enum, but its tables take any string. Registering imports
PEFT and with it torch, so `import weitiao` does not do it: `weitiao.register()` does, and so does all code of weitiao
that reads an adapter. Without it PEFT raises KeyError: 'WEITIAO_...', which names what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import METHODS

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn

    from .._base import Attached
    from .._layers.base import OwnTuner

PREFIX = "WEITIAO_"
"""The prefix of the `peft_type` of our own methods."""


def register() -> None:
    """Make PEFT's own `from_pretrained` load our own methods; further calls change nothing."""
    from peft import mapping

    for tuner in _tuners():
        kind: str = tuner.config_class.kind
        mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind] = tuner.config_class
        mapping.PEFT_TYPE_TO_TUNER_MAPPING[kind] = tuner
        mapping.PEFT_TYPE_TO_PREFIX_MAPPING[kind] = tuner.prefix


def _tuners() -> Iterator[type[OwnTuner]]:
    """Yield the tuners of our own methods."""
    for name in METHODS.names():
        if (tuner := METHODS.load(name).tuner()) is not None:
            yield tuner


def needs_registering(attached: Attached) -> bool:
    """Return whether PEFT loads what a method saves only after `register()`."""
    from peft import PeftModel

    model = attached.model
    return isinstance(model, PeftModel) and any(
        str(config.peft_type).startswith(PREFIX) for config in model.peft_config.values()
    )


def require_mergeable(model: PeftModel) -> None:
    """Raise ModelError, before anything is changed, if an adapter of our own has no merged form on its model."""
    from .._layers.base import OwnTuner

    tuner = model.base_model
    if isinstance(tuner, OwnTuner):
        tuner.require_mergeable()


def shares_on_merging(layer: nn.Module) -> bool:
    """Return whether a weight that modules share may stay shared when this layer of our own is merged."""
    from .._layers.base import OwnLayer

    return isinstance(layer, OwnLayer) and layer.keeps_ties
