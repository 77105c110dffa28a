"""The columns of a row (or keys of a turn), which record what was read, so that the rest can be reported or refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unread:
    """A column, or a key of a turn, that is not empty and was not read."""

    path: str
    """Its full name: `id` for a column, or `messages[].id` for a key of a turn."""
    name: str
    """The last part of the path."""
    value: Any

    @property
    def is_column(self) -> bool:
        """Whether it is a column of the row itself."""
        return self.path == self.name


class Fields(dict[str, Any]):
    """A dict that records which keys were read: `get` and `[]` do, `in` and iteration do not."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._read: set[str] = set()
        self._inner: list[tuple[str, Fields]] = []

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  (what the data holds)
        """Return a value and record that it was read; raises KeyError if it is missing."""
        self._read.add(name)
        return dict.__getitem__(self, name)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return a value, or `default` if it is missing, and record that it was read."""
        self._read.add(name)
        return dict.get(self, name, default)

    def within(self, name: str, value: Mapping[str, Any]) -> Fields:
        """Return an object inside the list or object `name` as Fields, whose unread keys count as this row's."""
        inner = Fields(value)
        self._inner.append((name, inner))
        return inner

    def without(self, names: Collection[str]) -> Fields:
        """Return the fields without some names; what is read from the copy is recorded here too."""
        rest = Fields({name: value for name, value in self.items() if name not in names})
        rest._read, rest._inner = self._read, self._inner
        return rest

    def unread(self, before: str = "") -> Iterator[Unread]:
        """Yield what is not empty and was not read: first columns, then keys of turns."""
        if not self.keys() <= self._read:
            for name, value in self.items():
                if name not in self._read and not is_empty(value):
                    yield Unread(before + str(name), str(name), value)
        for name, inner in self._inner:
            yield from inner.unread(f"{before}{name}[].")


def noted_within(fields: Mapping[str, Any], name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object inside a row; if the row is a Fields, reads from the object are recorded."""
    return fields.within(name, value) if isinstance(fields, Fields) else value


def without(fields: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Return a row without some columns; if the row is a Fields, reads from the copy are recorded in it."""
    if isinstance(fields, Fields):
        return fields.without(names)
    return {name: value for name, value in fields.items() if name not in names}


def is_empty(value: object) -> bool:
    """Return whether a value is null, blank text, or an empty list or object, also one as JSON text in a table cell."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}")
    return value is None or (isinstance(value, list | dict | tuple) and not value)
