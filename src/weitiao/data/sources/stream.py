"""What reading a source gives: rows, rows that could not be read, and what a person should know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...core.errors import DataError, Problem
from ..bad_rows import BadRow, Found
from ..conversation import Row

if TYPE_CHECKING:
    from ..settings import SourceSettings


class Stream:
    """The rows of one source, read while they are asked for; each pass reads anew."""

    def __init__(
        self,
        name: str,
        source: SourceSettings,
        begin: Callable[[list[str]], Found],
        notes: tuple[str, ...] = (),
    ) -> None:
        """Take what a person calls the source, its settings, and what begins a pass (given a list for its notes)."""
        self.name, self.source = name, source
        self.notes: list[str] = list(notes)
        """What a person should know; complete when a pass is."""
        self.begin, self._first_notes = begin, notes

    def __iter__(self) -> Found:
        """Yield rows and rows that cannot be used, in the order of the file.

        Raises DataError where the source cannot be read any further, or holds no rows.
        """
        self.notes[:] = self._first_notes
        rows = self.begin(self.notes)
        first = next(rows, None)
        if first is None:
            raise DataError(Problem(f"{self.name} holds no rows", "0 rows", "at least one row"))
        yield first
        yield from rows


@dataclass
class Rows:
    """All rows of one source, in memory."""

    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        """How many rows there were, those that cannot be used included."""
        return len(self.rows) + len(self.bad)
