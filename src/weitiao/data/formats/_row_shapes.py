"""Recognises rows that fit no format by their shape: several rows as parallel lists, or the question as the key."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import Problem
from ..conversation import Row

LEAST_ROWS = 2
SHOWN_CHARACTERS = 60


def shape_problem(sample: Sequence[Row], name: str) -> Problem | None:
    """Return the problem of rows with a known wrong shape; None for any other."""
    if not sample:
        return None
    first = sample[0]
    shown = f"{first.place}: {repr(first.fields)[:SHOWN_CHARACTERS]}"
    if lists := _parallel(sample):
        return Problem(
            f"each row of {name} holds several rows, as parallel lists ({', '.join(lists)})",
            shown,
            'one row per item: {"question": "...", "answer": "..."}',
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
    """Return the columns with lists of texts or numbers that are equally long in each row; empty if fewer than two."""
    lists = [{name: value for name, value in row.fields.items() if isinstance(value, list)} for row in sample]
    names = [name for name in lists[0] if all(name in row and _are_texts(row[name]) for row in lists)]
    alike = all(len({len(row[name]) for name in names}) == 1 for row in lists)
    return names if len(names) > 1 and alike else []


def _are_texts(values: list[object]) -> bool:
    return bool(values) and all(isinstance(one, str | int | float) for one in values)


def _have_questions_as_keys(sample: Sequence[Row]) -> bool:
    """Return whether each row has a single text column, and most of these columns have different names."""
    names = {name for row in sample for name in row.fields}
    alone = all(len(row.fields) == 1 and isinstance(next(iter(row.fields.values())), str) for row in sample)
    return alone and len(sample) >= LEAST_ROWS and 2 * len(names) > len(sample)
