"""Lists of numbers as a person types them: `3`, `0,2`, `0-3`, `0,4-7,-1`, or a list in a run file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator

from .settings import Unfit

RANGE = re.compile(r"\s*(-?\d+)\s*-\s*(-?\d+)\s*")
LONGEST = 1_000_000
"""How many numbers a range may stand for."""


def read_numbers(raw: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
    """Take one number, or numbers and ranges with commas between, for the list they mean; what is none stays."""
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
        reason = f"the range {item.strip()} has no numbers, or too many"
        raise Unfit(reason, "the smaller number first: 0-3", f"{last}-{first}" if last < first else "")
    yield from range(first, last + 1)


Numbers = Annotated[list[int], BeforeValidator(read_numbers)]
"""A list of whole numbers, however it is typed."""
