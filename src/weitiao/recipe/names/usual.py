"""The layer of config objects' defaults, which lies below the layer that has the objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...core.dotted_names import by_dotted_name, nested_at
from ...core.settings import check_settings, merge
from .configs import config_kinds, usual_values
from .layers import Layer, Theirs, named_method
from .words import as_written, plain_value

FITTED = (
    "train.gradient_checkpointing",
    "train.offload_activations",
    "train.kernels",
    "train.compile",
    "train.optimizer",
    "model.device_map",
    "track",
    "out",
)
"""Settings that keep our defaults: what depends on the machine, where results go, and the variant of AdamW."""


class UsualLayer(Layer):
    """Defaults of config objects; those that have no counterpart here or cannot be read are skipped."""

    def __init__(self, raw: Mapping[str, Any], before: Layer | None) -> None:
        """Sort the defaults of the config objects in a layer `raw`; they use that layer's method."""
        super().__init__(usual_values(raw), before, named_method(raw))
        self.kinds = tuple(dict.fromkeys(config_kinds(raw)))
        every = by_dotted_name(self.own).items()
        own = {dotted: plain_value(value) for dotted, value in every if self._counts(dotted, value)}
        if own.get("train.warmup_steps") == 0:  # a given warmup of either kind overrides a ratio
            del own["train.warmup_steps"]
            own["train.warmup_ratio"] = 0.0
        self.own = {}
        for dotted, value in own.items():
            self.own = merge(self.own, nested_at(dotted, value))
        self.theirs = [self._as_usual(one) for one in self.theirs if self._is_read(one)]
        self.said, self.problems = [], []

    def _counts(self, dotted: str, value: object) -> bool:
        path, _, name = dotted.rpartition(".")
        cls = self._blocks.get(path)
        if cls is None or name not in cls.model_fields or value is None or _is_fitted(dotted):
            return False
        _, problems = check_settings(cls, {name: plain_value(value)}, path)
        return not any(re.match(rf"{re.escape(dotted)}\b", one.what) for one in problems if one.got)

    def _is_read(self, one: Theirs) -> bool:
        targets = one.entry.group.targets
        return bool(targets) and one.given.value is not None and not any(map(_is_fitted, targets))

    def _as_usual(self, one: Theirs) -> Theirs:
        return replace(one, given=replace(one.given, usual=True))

    def line(self, in_force: Mapping[str, Any]) -> str:
        """Return a line about this layer's settings that take effect; empty if they equal our defaults."""
        other = [
            f"{name}={as_written(value)}"
            for name, value in in_force.items()
            if not self._is_ours(name, value)
        ]
        whose = " and ".join(self.kinds)
        return f"defaults of {whose} that hold here: {', '.join(other)}" if other else ""

    def _is_ours(self, dotted: str, value: object) -> bool:
        path, _, name = dotted.rpartition(".")
        cls = self._blocks.get(path)
        field = cls.model_fields.get(name) if cls else None
        ours = field.get_default(call_default_factory=True) if field else None
        return ours == value or as_written(ours) == as_written(value)


def _is_fitted(dotted: str) -> bool:
    return any(dotted == one or dotted.startswith(f"{one}.") for one in FITTED)


def with_usual(raw: Mapping[str, Any], before: Layer | None) -> list[Layer]:
    """Return a layer of settings, preceded by a layer of its config objects' defaults if it has such objects."""
    if not usual_values(raw):
        return [Layer(raw, before)]
    usual = UsualLayer(raw, before)
    return [usual, Layer(raw, usual)]
