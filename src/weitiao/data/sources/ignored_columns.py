"""Columns, and keys of turns, that the user excludes from the data (`ignore_columns`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..bad_rows import BadRow
from ..conversation import Row

KEY_OF_EACH = "[]."
"""Separates a column that holds a list from a key of its items, as in `messages[].id`."""


class Ignored:
    """Removes columns and keys from rows, and records which of them were found."""

    def __init__(self, paths: Iterable[str], mapping: Mapping[str, str]) -> None:
        """Take paths of columns, named as in the data or as weitiao names them; `mapping` is our name -> theirs."""
        parts = {path: path.split(KEY_OF_EACH) for path in paths}
        self._paths = {path: (mapping.get(first, first), *rest) for path, (first, *rest) in parts.items()}
        self.met: set[str] = set()

    def rows(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield the rows without these columns and keys."""
        for row in rows:
            yield replace(row, fields=self._without(row.fields)) if isinstance(row, Row) else row

    def _without(self, fields: dict[str, Any]) -> dict[str, Any]:
        for path, parts in self._paths.items():
            found, fields = _taken(fields, parts)
            if found:
                self.met.add(path)
        return fields


def _taken(fields: Mapping[str, Any], parts: tuple[str, ...]) -> tuple[bool, dict[str, Any]]:
    """Return whether the path was found, and a copy of the fields without it."""
    name, *rest = parts
    if name not in fields:
        return False, dict(fields)
    if not rest:
        return True, {key: value for key, value in fields.items() if key != name}
    value = fields[name]
    items = value if isinstance(value, list) else [value]
    taken = [_taken(item, tuple(rest)) if isinstance(item, dict) else (False, item) for item in items]
    kept = [item for _, item in taken]
    return any(found for found, _ in taken), {**fields, name: kept if isinstance(value, list) else kept[0]}
