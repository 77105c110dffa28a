"""How values are written in messages, and how yes and no are read."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ...core.errors import nearest
from ...core.settings import Unfit

LONGEST = 60
"""Characters of a value that are shown."""


def as_written(value: Any) -> str:  # noqa: ANN401  (any value of a run file)
    """Write a value as in a run file, shortened if it is long."""
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


def plain_value(value: Any) -> Any:  # noqa: ANN401
    """Return an Enum's value; anything else unchanged."""
    return value.value if isinstance(value, Enum) else value


YES = ("true", "yes", "1", "on")
NO = ("false", "no", "0", "off", "none", "null", "")


class NoSwitch(Unfit):
    """Raised for a value that is neither yes nor no; `value` is that value."""

    def __init__(self, value: object) -> None:
        super().__init__("it must be true or false", "true or false")
        self.value = value

    def remedy_for(self, name: str) -> str:
        """Return what to type for the given name: the nearest spelling, else both."""
        near = nearest(str(self.value), (*YES, *NO), 1)
        meant = ["true" if one in YES else "false" for one in near] or ["true", "false"]
        return " or ".join(f"{name}={one}" for one in meant)


def is_true(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value means yes, also as text such as `True` from a command line; raises NoSwitch otherwise."""
    text = f"{value:g}" if isinstance(value, float) else str(plain_value(value)).strip().lower()
    if text not in YES + NO:
        raise NoSwitch(value)
    return text in YES
