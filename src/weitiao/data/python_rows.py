"""Rows given from Python: a list or another iterable of dicts, a datasets.Dataset, a pandas DataFrame."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping

from .bad_rows import BadRow
from .conversation import Row
from .rows import Found

PYTHON_SOURCE = "<python>"
SHOWN_CHARACTERS = 60


def records(rows: Iterable[object]) -> Iterator[object]:
    """Yield one object a row; a DataFrame, whose iteration gives its columns, gives dicts (missing cells are None)."""
    if "pandas" not in sys.modules:
        yield from rows
        return
    import pandas

    if not isinstance(rows, pandas.DataFrame):
        yield from rows
        return
    names = [str(name) for name in rows.columns]
    for cells in rows.itertuples(index=False, name=None):
        # Only NaN, which is how pandas writes a missing cell, differs from itself.
        yield {
            name: None if isinstance(cell, float) and cell != cell else cell
            for name, cell in zip(names, cells, strict=True)
        }


def python_rows(rows: Iterable[object]) -> Found:
    """Yield rows numbered from 1; what is not a mapping is a row that cannot be used."""
    for number, fields in enumerate(records(rows), start=1):
        if isinstance(fields, Mapping):
            yield Row(dict(fields), PYTHON_SOURCE, number)
        else:
            shown = repr(fields)[:SHOWN_CHARACTERS]
            yield BadRow(f"{PYTHON_SOURCE}:{number}", "it is not an object {...}", shown)
