"""Checks that a source's rows have the columns its own mapping names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ...core.errors import Problem, nearest
from ..bad_rows import BadRow
from ..conversation import Row
from .dataset_info import USUAL_COLUMNS


class MappedColumns:
    """Looks for the columns of a mapping in the rows of a source."""

    def __init__(self, mapping: Mapping[str, str]) -> None:
        """Take our name of a column -> its name in the source.

        The columns that a dataset_info.json entry implies by default (`USUAL_COLUMNS`) may be missing.
        """
        self._missing = {
            theirs: ours for ours, theirs in mapping.items() if (ours, theirs) not in USUAL_COLUMNS
        }
        self._met: set[str] = set()
        self._ended = False

    def rows(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield rows unchanged, and record their columns."""
        for row in rows:
            if self._missing and isinstance(row, Row):
                self._met |= row.fields.keys()
                for name in self._missing.keys() & row.fields.keys():
                    del self._missing[name]
            yield row
        self._ended = True

    def problems(self, source: str) -> list[Problem]:
        """Return a problem for each column that no row has; none unless all rows were read."""
        if not (self._ended and self._met):
            return []
        return [
            Problem(
                f"{source} has no column {theirs!r}",
                f"{theirs}, as its {ours}",
                "one of " + ", ".join(sorted(self._met)),
                " or ".join(nearest(theirs, self._met)),
            )
            for theirs, ours in self._missing.items()
        ]
