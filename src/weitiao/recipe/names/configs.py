"""Config objects of other libraries: separates the values a person gave from the library's defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

from .entries import asks_for_nothing

WRITTEN_BY_ITSELF = ("peft_version", "transformers_version")
"""Fields that libraries fill in by themselves."""
FILLED_IN = {"output_dir": "trainer_output"}
"""Values that TrainingArguments fills in for fields nobody gave."""


@runtime_checkable
class HasDifferences(Protocol):
    """A transformers config, which knows how it differs from its defaults."""

    def to_dict(self) -> dict[str, Any]:
        """Return every value, by name."""
        ...

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the values that differ from the defaults, by name."""
        ...


class Stated(dict[str, Any]):
    """The values of a config object that differ from its defaults, by name; `usual` holds the defaults.

    An object has a value for every field, so its defaults count as well: they hold where nothing else is given.
    """

    def __init__(self, kind: str, given: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
        """Store both separately; `kind` is the name of the object's class."""
        super().__init__(given)
        self.kind = kind
        self.usual = dict(usual)


def as_mapping(value: Any) -> Any:  # noqa: ANN401  (whatever a run file or a keyword holds)
    """Return another tool's config object as a mapping; anything else unchanged."""
    if isinstance(value, HasDifferences):
        given = value.to_diff_dict()
        usual = {name: one for name, one in value.to_dict().items() if name not in given}
    elif is_dataclass(value) and not isinstance(value, type):
        own = vars(value)
        defaults = {one.name: _default(one) for one in fields(value)}
        given = {name: own.get(name) for name in defaults if not _is_usual(own.get(name), defaults[name])}
        usual = {name: own.get(name) for name in defaults if name not in given}
    else:
        return value
    return Stated(type(value).__name__, _of_people(given), _of_people(usual))


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _is_usual(value: object, default: object) -> bool:
    """Return whether a value is the default, possibly in a form that the object has converted it to."""
    filled_in = is_dataclass(value) and not as_mapping(value)
    return bool(value == default or filled_in) or (asks_for_nothing(value) and asks_for_nothing(default))


def _of_people(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a person can have given."""
    return {
        name: one
        for name, one in values.items()
        if not name.startswith("_") and name not in WRITTEN_BY_ITSELF and FILLED_IN.get(name, MISSING) != one
    }


def usual_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of all config objects in a layer of settings, under the objects' keys."""
    found: dict[str, Any] = {}
    for key, value in raw.items():
        config = as_mapping(value)
        if isinstance(config, Stated):
            found[str(key)] = config.usual
        elif isinstance(config, Mapping) and (inside := usual_values(config)):
            found[str(key)] = inside
    return found


def config_kinds(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield the class names of all config objects in a layer of settings."""
    for value in raw.values():
        config = as_mapping(value)
        if isinstance(config, Stated):
            yield config.kind
        elif isinstance(config, Mapping):
            yield from config_kinds(config)
