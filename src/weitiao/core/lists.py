"""Lists of numbers as a person types them (`3`, `0,2`, `0-3`, `0,4-7,-1`, or a list in a run file), and of names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator

from .settings import Unfit

RANGE = re.compile(r"\s*(-?\d+)\s*-\s*(-?\d+)\s*")
LONGEST = 1_000_000
"""Most numbers in one range."""


def name_list(names: str) -> tuple[str, ...]:
    """Return the names that a text holds, separated by blanks."""
    return tuple(names.split())


def read_numbers(raw: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
    """Turn one number, or comma-separated numbers and ranges, into a list; return anything else unchanged."""
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return [raw]
    items = raw.split(",") if isinstance(raw, str) else raw
    return [n for item in items for n in _meant(item)] if isinstance(items, list | tuple) else raw


def _meant(item: Any) -> Iterator[Any]:  # noqa: ANN401
    found = RANGE.fullmatch(item) if isinstance(item, str) else None
    if found is None:
        yield item
        return
    first, last = map(int, found.groups())
    if not 0 <= last - first < LONGEST:
        reason = f"the range {item.strip()} is empty or too long"
        raise Unfit(reason, "the smaller number first: 0-3", f"{last}-{first}" if last < first else "")
    yield from range(first, last + 1)


Numbers = Annotated[list[int], BeforeValidator(read_numbers)]
"""A list of whole numbers, in any of the forms above."""
