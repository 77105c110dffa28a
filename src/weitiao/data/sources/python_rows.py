"""Rows from Python objects: an iterable of dicts, a datasets.Dataset, a torch Dataset, or a table (a pandas DataFrame,
or one that exports Arrow, such as those of pyarrow and polars).

Arrays, tensors and tuples in a row become lists. The null fields that Arrow adds to structs are removed, both from the
rows of a datasets.Dataset and from the arrays in a DataFrame's cells, as pandas.read_parquet makes them.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

from ...core.errors import DataError, Problem
from ..bad_rows import BadRow, Found
from ..conversation import Row
from ..formats._known import MEANINGS
from .arrow_rows import BATCH_ROWS, changes_of, without_nulls
from .json_values import MOST_LEVELS

PYTHON_SOURCE = "<python>"
SHOWN_CHARACTERS = 60
PLAIN = (str, int, float, bool, type(None))


@runtime_checkable
class Indexed(Protocol):
    """Rows accessed by index, such as a map-style torch Dataset."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, number: int, /) -> object:
        """Return the row with an index, from 0."""


@runtime_checkable
class _ArrowTable(Protocol):
    """A table of pyarrow, polars or another library that exports its content as an Arrow C stream
    (https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html)."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the Arrow C stream."""

    @property
    def columns(self) -> object:
        """The columns; they tell a table from a single array, which has none."""


@runtime_checkable
class _Array(Protocol):
    """An array, tensor or scalar of numpy, torch or pandas."""

    def tolist(self) -> Any:  # noqa: ANN401
        """Return its values as Python objects."""


def gives_rows(value: object) -> bool:
    """Return whether an object can yield rows: an iterable, an indexed object or an Arrow table; not text, bytes or a
    mapping."""
    return isinstance(value, Iterable | Indexed | _ArrowTable) and not isinstance(
        value, str | bytes | Mapping
    )


def records(rows: Iterable[object] | Indexed) -> Iterator[object]:
    """Yield one object per row; a DataFrame or Arrow table yields dicts, with None for missing cells."""
    if _is_frame(rows):
        yield from _frame_records(rows)
    elif _is_table(rows):
        yield from _table_records(rows)
    elif isinstance(rows, Iterable):
        yield from rows
    else:
        yield from (rows[number] for number in range(len(rows)))


def chosen_split(given: object, split: str) -> object:
    """Return one split of a DatasetDict, anything else unchanged; raises ValueError if it has no such split."""
    if not is_split(given):
        return given
    if split not in given:
        names = ", ".join(map(str, given))
        raise ValueError(
            f"the DatasetDict has no split {split!r}, only {names or 'none'}: give one of them, such as data[NAME]"
        )
    return given[split]


def is_split(given: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether an object is a DatasetDict or IterableDatasetDict, which map splits to data sets."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(given, datasets.DatasetDict | datasets.IterableDatasetDict)


def _is_table(rows: object) -> TypeGuard[_ArrowTable]:
    return isinstance(rows, _ArrowTable) and not _is_arrow(rows)


def _table_records(rows: _ArrowTable) -> Iterator[dict[str, object]]:
    """Yield the rows of a table that exports Arrow; raises DataError for duplicate column names."""
    import pyarrow

    table = pyarrow.table(rows)
    _require_own_names(table.column_names)
    changes = changes_of(table.schema)
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        for fields in batch.to_pylist():
            yield {name: changes[name](cell) if name in changes else cell for name, cell in fields.items()}


def plain_records(rows: Iterable[object] | Indexed) -> list[object]:
    """Return all rows with arrays, tensors and tuples as lists, for JSON; raises ValueError for nesting too deep."""
    tidy = _tidy(rows)
    return [tidy(one) if isinstance(one, Mapping) else one for one in records(rows)]


def _tidy(rows: object) -> Callable[[Any], Any]:
    """Return the function that converts a row to plain Python values."""
    if _is_arrow(rows):
        return lambda fields: {name: without_nulls(plain(value)) for name, value in fields.items()}
    return plain


def _is_frame(rows: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(rows, pandas.DataFrame)


def _is_arrow(rows: object) -> bool:
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(rows, datasets.Dataset | datasets.IterableDataset)


def _frame_records(frame: Any) -> Iterator[dict[str, object]]:  # noqa: ANN401  (pandas is imported by its users)
    pandas = sys.modules["pandas"]
    names = [str(name) for name in frame.columns]
    _require_own_names(names)
    missing = (type(pandas.NA), type(pandas.NaT))
    for cells in frame.itertuples(index=False, name=None):
        # pandas marks a missing cell with NaN, the only value not equal to itself. A missing weight or score stays
        # NaN, so that its row is refused: as None it would count as none, and the row would be trained in full.
        yield {
            name: (math.nan if name.lower() in MEANINGS else None)
            if isinstance(cell, missing) or (isinstance(cell, float) and cell != cell)
            else cell
            for name, cell in zip(names, cells, strict=True)
        }


def _require_own_names(names: Sequence[str]) -> None:
    """Raise DataError if two columns of a table have the same name."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            Problem(
                "the table has two columns of the same name",
                repr(twice[0]),
                "a different name for each column",
                "rename one of them",
            )
        )


def plain(value: Any, levels: int = MOST_LEVELS) -> Any:  # noqa: ANN401  (any value in a row)
    """Return a value with arrays, tensors and tuples as lists; raises ValueError if nested deeper than `levels`."""
    if type(value) in PLAIN:
        return value
    if not levels:
        raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels")
    if isinstance(value, Mapping):
        return {str(name): plain(one, levels - 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [one if type(one) in PLAIN else plain(one, levels - 1) for one in value]
    if isinstance(value, _Array) and not isinstance(value, type):
        made = value.tolist()
        # pandas holds a list from Arrow as an array of objects, whose dicts still have Arrow's null fields.
        return without_nulls(plain(made, levels - 1)) if isinstance(made, list) else made
    return value


def python_rows(rows: Iterable[object] | Indexed) -> Found:
    """Yield rows numbered from 1; one that is not a mapping, or is nested too deeply, becomes a bad row."""
    tidy = _tidy(rows)
    for number, fields in enumerate(records(rows), start=1):
        place = f"{PYTHON_SOURCE}:{number}"
        if not isinstance(fields, Mapping):
            yield BadRow(place, "it is not an object {...}", repr(fields)[:SHOWN_CHARACTERS])
            continue
        try:
            yield Row(tidy(fields), PYTHON_SOURCE, number)
        except ValueError as error:
            yield BadRow(place, str(error))
