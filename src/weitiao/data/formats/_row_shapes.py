"""Rows that fit no format and are known by their shape: several rows in lists side by side, a question as the key."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import Problem
from ..conversation import Row

LEAST_ROWS = 2
SHOWN_CHARACTERS = 60


def shape_problem(sample: Sequence[Row], name: str) -> Problem | None:
    """Describe rows by their shape; None where it says nothing."""
    if not sample:
        return None
    first = sample[0]
    shown = f"{first.place}: {repr(first.fields)[:SHOWN_CHARACTERS]}"
    if lists := _parallel(sample):
        return Problem(
            f"the rows of {name} hold lists side by side ({', '.join(lists)}), each of several rows",
            shown,
            'a row for each item: {"question": "...", "answer": "..."}',
            "in Python: [dict(zip(row, cells)) for row in rows for cells in zip(*row.values())]",
        )
    if _have_questions_as_keys(sample):
        return Problem(
            f"the rows of {name} have a question as the key and its answer as the value",
            shown,
            'two columns: {"question": "...", "answer": "..."}',
            'in Python: [{"question": q, "answer": a} for row in rows for q, a in row.items()]',
        )
    return None


def _parallel(sample: Sequence[Row]) -> list[str]:
    """Return the columns that hold lists of texts, equally many in each row; none where there are not two."""
    lists = [{name: value for name, value in row.fields.items() if isinstance(value, list)} for row in sample]
    names = [name for name in lists[0] if all(name in row and _are_texts(row[name]) for row in lists)]
    alike = all(len({len(row[name]) for name in names}) == 1 for row in lists)
    return names if len(names) > 1 and alike else []


def _are_texts(values: list[object]) -> bool:
    return bool(values) and all(isinstance(one, str | int | float) for one in values)


def _have_questions_as_keys(sample: Sequence[Row]) -> bool:
    """Whether each row has one text under a name of its own."""
    names = {name for row in sample for name in row.fields}
    alone = all(len(row.fields) == 1 and isinstance(next(iter(row.fields.values())), str) for row in sample)
    return alone and len(sample) >= LEAST_ROWS and 2 * len(names) > len(sample)
