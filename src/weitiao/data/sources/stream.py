"""The result of reading a source: rows, bad rows, and notes for the user."""

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
    """The rows of one source, read lazily; each iteration reads the source again."""

    def __init__(
        self,
        name: str,
        source: SourceSettings,
        begin: Callable[[list[str]], Found],
        notes: tuple[str, ...] = (),
    ) -> None:
        """Take the source's name for messages, its settings, and `begin`, which starts a pass.

        `begin` is called with the list to append notes to.
        """
        self.name, self.source = name, source
        self.notes: list[str] = list(notes)
        """Notes for the user; complete at the end of a pass."""
        self.begin, self._first_notes = begin, notes

    def __iter__(self) -> Found:
        """Yield rows and bad rows, in the order of the file.

        Raises DataError if the source cannot be read further, or has no rows.
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
        """The number of rows read, including bad ones."""
        return len(self.rows) + len(self.bad)
