"""JSON values decoded with Python's decoder, which also detects duplicate keys, integers that are too long and nesting
that is too deep."""

from __future__ import annotations

import json
from typing import Any

MOST_LEVELS = 100
"""Deeper values would exceed the recursion limit, here and in the libraries they are passed to."""
TOO_LONG = "it holds a whole number of more than 4,300 digits"
TOO_DEEP = f"it is nested deeper than {MOST_LEVELS} levels"


class UnusableValue(ValueError):
    """A value that is valid JSON but cannot be used; `end` is the index after it."""

    def __init__(self, reason: str, end: int) -> None:
        self.reason, self.end = reason, end
        super().__init__(reason)


class ValueDecoder:
    """Decodes the values of one file."""

    def __init__(self) -> None:
        self.twice = ""
        """A duplicate key of an object in the value decoded last; "" if there is none."""
        self._objects, self._first = 0, ""
        self._decode = json.JSONDecoder(object_pairs_hook=self._object).raw_decode

    def decode(self, text: str, at: int = 0) -> tuple[Any, int]:
        """Return the value that begins at an index, and the index after it; raises JSONDecodeError, UnusableValue."""
        self.twice = ""
        try:
            value, end = self._decode(text, at)
        except json.JSONDecodeError:
            raise
        except RecursionError as error:
            raise json.JSONDecodeError("It is nested too deeply", text, at) from error
        except ValueError as error:  # Python converts no integer of more than 4,300 digits
            raise UnusableValue(TOO_LONG, _SKIP(text, at)[1]) from error
        if text.count("{", at, end) + text.count("[", at, end) > MOST_LEVELS and is_deep(value):
            raise UnusableValue(TOO_DEEP, end)
        return value, end

    def seen_at(self, place: str) -> None:
        """Record the location of the value decoded last, for the note on duplicate keys."""
        if self.twice:
            self._first = self._first or f"{self.twice!r}, {place}"
            self._objects += 1

    def notes(self, source: str) -> list[str]:
        """Return the notes for the user about the values of a file."""
        if not self._objects:
            return []
        rows = "one row" if self._objects == 1 else f"{self._objects} rows"
        return [f"{source}: a key appears twice in {rows} (first {self._first}); its last value was used"]

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            self.twice = next(name for name in names if names.count(name) > 1)
        return made


def _no_number(digits: str) -> int:
    return 0


_SKIP = json.JSONDecoder(parse_int=_no_number).raw_decode
"""Finds the end of a value whose integers Python cannot convert."""


def is_deep(value: object) -> bool:
    """Return whether lists and objects are nested deeper than `MOST_LEVELS`."""
    level: list[object] = [value]
    for _ in range(MOST_LEVELS):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: object) -> list[object]:
    found = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in found if isinstance(one, dict | list)]
