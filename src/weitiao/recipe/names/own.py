"""All settings by block, to find the block of a setting that was written without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...core.settings import Settings
from ..blocks import FIXED, NAMED

Blocks = Mapping[str, type[Settings]]
"""The class of each block, by its dotted path."""


def blocks_for(named: Mapping[str, type[Settings] | None]) -> Blocks:
    """Return all blocks of a run; `named` holds the classes chosen for its method and objective, as far as known."""
    return {**FIXED, **{name: cls for name, cls in named.items() if cls is not None}}


def components() -> Iterator[tuple[str, str, type[Settings]]]:
    """Yield each method and objective as (block, name, class); imports them all."""
    for block, named in NAMED.items():
        yield from ((block, name, named.registry.load(name)) for name in named.registry.names())


def setting_names(blocks: Blocks = FIXED) -> list[str]:
    """Return the names of all settings of these blocks, without their blocks."""
    return [name for cls in blocks.values() for name in cls.model_fields]


def every_setting_name() -> list[str]:
    """Return the names of all settings, those of every method and objective included, without their blocks."""
    own = [name for _, _, cls in components() for name in cls.model_fields]
    return list(dict.fromkeys([*setting_names(), *own]))


def dotted_settings() -> list[str]:
    """Return the dotted names of all settings, those of every method and objective included."""
    named = [f"{block}.{name}" for block, _, cls in components() for name in cls.model_fields]
    return [f"{path}.{name}" for path, cls in FIXED.items() for name in cls.model_fields] + named


def known_setting(name: str) -> bool:
    """Return whether a block has a setting of this name, or a method or objective knows it under any tool's name."""
    known = {one for _, _, cls in components() for one in (*cls.model_fields, *cls.known_elsewhere)}
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
