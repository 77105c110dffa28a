"""Turns nested settings into dotted names such as `train.lr`, and dotted names into nested settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def by_dotted_name(nested: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values of nested settings by dotted name; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{path}.{key}" if path else str(key)
        found |= by_dotted_name(value, name) if isinstance(value, Mapping) and value else {name: value}
    return found


def nested_at(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401  (a setting's value)
    """Return nested settings that hold one value, at a dotted name."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)
