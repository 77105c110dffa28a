"""Rows that cannot be used, grouped by reason so that the user sees all problems at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..core.errors import Problem
from .conversation import Row

SHOWN_PLACES = 5


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be used."""

    place: str
    """Its location, as `file:line`."""
    reason: str
    """Why it cannot be used, in the same words for every row with this fault."""
    detail: str = ""
    """Details of this row alone."""


Found = Iterator[Row | BadRow]
"""The result of reading a source: usable and unusable rows, one by one."""


def by_reason(rows: Iterable[BadRow]) -> dict[str, list[BadRow]]:
    """Group rows by reason, the most frequent first."""
    groups: dict[str, list[BadRow]] = {}
    for row in rows:
        groups.setdefault(row.reason, []).append(row)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def problems_of(rows: Sequence[BadRow], expected: str, read: int) -> list[Problem]:
    """Return one problem per reason, with the number of bad rows and their first locations.

    `read` is the total number of rows read.
    """
    remedy = "correct these rows, or leave them out with data.skip_bad_rows=true"
    return [
        Problem(f"{len(group)} of {read} rows cannot be used: {reason}", _places(group), expected, remedy)
        for reason, group in by_reason(rows).items()
    ]


def _places(group: Sequence[BadRow]) -> str:
    lines = [f"{row.place}: {row.detail}" if row.detail else row.place for row in group[:SHOWN_PLACES]]
    more = len(group) - SHOWN_PLACES
    return "\n".join(lines + ([f"and {more} more"] if more > 0 else []))
