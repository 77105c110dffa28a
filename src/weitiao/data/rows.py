"""What reading a source gives: rows, rows that could not be read, and what a person should know."""

from __future__ import annotations

from dataclasses import dataclass, field

from .bad_rows import BadRow
from .conversation import Row


@dataclass
class Rows:
    """Rows of one source."""

    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        """How many rows there were, those that cannot be used included."""
        return len(self.rows) + len(self.bad)

    def extend(self, other: Rows) -> None:
        """Add the rows of another file."""
        self.rows += other.rows
        self.bad += other.bad
        self.notes += other.notes
