"""Arrow records as rows, without the null fields that Arrow adds to structs.

All structs of a column have the same fields; one that lacks a field holds null there. Arrow does not distinguish a
missing field from one written as null, so both are left out. Columns and map values keep their nulls: Arrow does not
pad them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..bad_rows import BadRow
from ..conversation import Row
from .decompression import LEAST_ROW_BYTES, Unpacked

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 64
"""Rows per batch; few, because a batch repeats a long value that a dictionary-encoded column stores once."""
Change = Callable[[Any], Any]


class ArrowRows:
    """Converts the records of one file to rows."""

    def __init__(self, source: str, schema: pyarrow.Schema, unpacked: Unpacked) -> None:
        self._source, self._unpacked = source, unpacked
        self._changes = changes_of(schema)
        self.number = 0
        """The number of rows so far."""

    def rows(self, batch: pyarrow.RecordBatch) -> Iterator[Row | BadRow]:
        """Yield the rows of a batch, numbered from 1; raises ArrowException, and DataError for a decompression bomb."""
        for at in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(at, BATCH_ROWS)
            self._unpacked.add(part.get_total_buffer_size() if not at else 0)
            self._unpacked.add(LEAST_ROW_BYTES * part.num_rows + sum(map(_repeated_bytes, part.columns)))
            for fields in _records(part):
                self.number += 1
                yield self._row(fields)

    def _row(self, fields: dict[str, Any] | UnicodeDecodeError) -> Row | BadRow:
        if isinstance(fields, UnicodeDecodeError):
            return BadRow(f"{self._source}:{self.number}", "it holds text that is not in UTF-8", str(fields))
        for name, change in self._changes.items():
            fields[name] = change(fields[name])
        return Row(fields, self._source, self.number)


def _records(part: pyarrow.RecordBatch) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    """Yield the records of a batch; a record with text that is not UTF-8 comes as its UnicodeDecodeError."""
    try:
        yield from part.to_pylist()
    except UnicodeDecodeError:
        for at in range(part.num_rows):
            try:
                yield from part.slice(at, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield error


def _repeated_bytes(values: pyarrow.Array) -> int:
    """Return the bytes of text in a dictionary-encoded column once every row has its own copy."""
    import pyarrow
    from pyarrow import compute, types

    kind = values.type
    if isinstance(values, pyarrow.DictionaryArray):
        if not (types.is_string(kind.value_type) or types.is_large_string(kind.value_type)):
            return 0
        lengths = compute.binary_length(values.dictionary).take(values.indices)
        return int(compute.sum(lengths).as_py() or 0)
    if types.is_struct(kind):
        return sum(map(_repeated_bytes, values.flatten()))
    if types.is_list(kind) or types.is_large_list(kind):
        return _repeated_bytes(values.flatten())
    return 0


def changes_of(schema: pyarrow.Schema) -> Mapping[str, Change]:
    """Return the functions that convert a column's values to plain Python values, for the columns that need one."""
    changes = {field.name: _change(field.type) for field in schema}
    return {name: change for name, change in changes.items() if change is not None}


def _change(kind: pyarrow.DataType) -> Change | None:
    """Return the function that converts values of a type to plain Python values; None if they are plain already."""
    from pyarrow import types

    if types.is_struct(kind):
        inner = {field.name: _change(field.type) for field in kind}
        return lambda value: None if value is None else _without_padding(value, inner)
    if types.is_map(kind):
        items = _change(kind.item_type)
        return lambda value: None if value is None else {str(k): _changed(v, items) for k, v in value}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        element = _change(kind.value_type)
        if element is not None:
            return lambda value: None if value is None else [_changed(one, element) for one in value]
    return None


def _changed(value: Any, change: Change | None) -> Any:  # noqa: ANN401  (any value in a column)
    return value if change is None else change(value)


def _without_padding(value: Mapping[str, Any], inner: Mapping[str, Change | None]) -> dict[str, Any]:
    return {name: _changed(one, inner[name]) for name, one in value.items() if one is not None}


def without_nulls(value: Any) -> Any:  # noqa: ANN401  (any value in a record)
    """Return a value without the null fields of its objects, for records whose Arrow types are not known."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list | tuple) else value
