"""How values are written in what is said of them."""

from __future__ import annotations

from enum import Enum
from typing import Any

LONGEST = 60
"""More characters of a value are not shown."""


def shown(value: Any) -> str:  # noqa: ANN401  (any value of a run file)
    """Write a value as a run file would, shortened where it is long."""
    text = _written(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _written(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(map(_written, value)) if value else "[]"
    return str(value)


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return what an Enum stands for, and everything else as it is."""
    return value.value if isinstance(value, Enum) else value


def is_true(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value says yes, also as the text `True` that a command line has."""
    return value is True or str(plain(value)).lower() in ("true", "yes", "1", "on")
