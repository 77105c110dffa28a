"""All settings by block, to find the block of a setting that was written without one."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.settings import Settings
from ...data.settings import DataSettings, SourceSettings
from ...engine.runtime.tracking import TrackSettings
from ...engine.settings import TrainSettings
from ...evaluation.answers import EvaluateSettings
from ...evaluation.settings import GenerationSettings
from ...methods import METHODS
from ...methods._base import Method
from ...models.settings import ModelSettings
from ...objectives._base import Objective

Blocks = Mapping[str, type[Settings]]
"""The class of each block, by its dotted path."""

FIXED: Blocks = {
    "model": ModelSettings,
    "data": DataSettings,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "track": TrackSettings,
    "data.sources": SourceSettings,
    "evaluate.generation": GenerationSettings,
}
"""The blocks whose settings do not depend on a method or objective."""


def blocks_for(method: type[Method] | None, objective: type[Objective] | None = None) -> Blocks:
    """Return all blocks of a run, including those of its method and objective."""
    named: dict[str, type[Settings]] = {}
    if method is not None:
        named["method"] = method
    if objective is not None:
        named["objective"] = objective
    return {**FIXED, **named}


def setting_names() -> list[str]:
    """Return the names of all settings that do not depend on a method, without their blocks."""
    return [name for cls in FIXED.values() for name in cls.model_fields]


def dotted_settings() -> list[str]:
    """Return the dotted names of all settings that do not depend on a method."""
    return [f"{path}.{name}" for path, cls in FIXED.items() for name in cls.model_fields]


def known_setting(name: str) -> bool:
    """Return whether a block has a setting of this name, or a method knows it under this or another tool's name."""
    methods = [METHODS.load(method) for method in METHODS.names()]
    known = {one for method in methods for one in (*method.model_fields, *method.known_elsewhere)}
    return bool(homes(name, FIXED)) or spelling(name, dict.fromkeys(known)) is not None


def spelling(name: str, known: Mapping[str, object]) -> str | None:
    """Return the known name that equals `name`, ignoring case and `-` versus `_`; None if there is none."""
    if name in known:
        return name
    by_letters = {one.lower(): one for one in known}
    return by_letters.get(name.lower().replace("-", "_"))


def homes(name: str, blocks: Blocks) -> list[str]:
    """Return the dotted settings of this name; those in outer blocks come before, and hide, those in nested ones."""
    found = [f"{path}.{own}" for path, cls in blocks.items() if (own := spelling(name, cls.model_fields))]
    shallowest = min((one.count(".") for one in found), default=0)
    return [one for one in found if one.count(".") == shallowest]
