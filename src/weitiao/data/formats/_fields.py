"""The columns of a row (or keys of a turn), which remember what was read of them: the rest is reported or refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unread:
    """A column, or a key of a turn, that holds something and that nothing read."""

    path: str
    """What it is called: `id`, or `messages[].id` for a key of a turn."""
    name: str
    """The last part of the path."""
    value: Any

    @property
    def is_column(self) -> bool:
        """Whether it is a column of the row itself."""
        return self.path == self.name


class Fields(dict[str, Any]):
    """Values by name; `get` and `[]` note what was read, `in` and iteration do not."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._read: set[str] = set()
        self._inner: list[tuple[str, Fields]] = []

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  (what the data holds)
        """Return a value and note that it was read; raises KeyError where it is not there."""
        self._read.add(name)
        return dict.__getitem__(self, name)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return a value, or `default` where it is not there, and note that it was read."""
        self._read.add(name)
        return dict.get(self, name, default)

    def within(self, name: str, value: Mapping[str, Any]) -> Fields:
        """Return an object that stands in the list (or object) `name`; what is not read of it belongs to this row."""
        inner = Fields(value)
        self._inner.append((name, inner))
        return inner

    def without(self, names: Collection[str]) -> Fields:
        """Return the values but for some names; what is read of them is noted here."""
        rest = Fields({name: value for name, value in self.items() if name not in names})
        rest._read, rest._inner = self._read, self._inner
        return rest

    def unread(self, before: str = "") -> Iterator[Unread]:
        """Yield what holds something and was not read, columns first, then keys of turns."""
        if not self.keys() <= self._read:
            for name, value in self.items():
                if name not in self._read and not is_empty(value):
                    yield Unread(before + str(name), str(name), value)
        for name, inner in self._inner:
            yield from inner.unread(f"{before}{name}[].")


def noted_within(fields: Mapping[str, Any], name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object inside a row, with what is read of it noted where the row notes it."""
    return fields.within(name, value) if isinstance(fields, Fields) else value


def without(fields: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Return a row's columns but for some, with what is read of them noted where the row notes it."""
    if isinstance(fields, Fields):
        return fields.without(names)
    return {name: value for name, value in fields.items() if name not in names}


def is_empty(value: object) -> bool:
    """Whether a value says nothing: null, blank text, an empty list or object, also as JSON text in a table's cell."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}")
    return value is None or (isinstance(value, list | dict | tuple) and not value)
