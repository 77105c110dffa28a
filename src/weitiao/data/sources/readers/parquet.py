"""Parquet files, read by parts of a row group."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ....core.errors import DataError, Problem
from ...bad_rows import Found
from ..arrow_rows import BATCH_ROWS, ArrowRows
from ..decompression import LEAST_ROW_BYTES, Unpacked
from ..text_files import reading
from ._base import DataFile, Reader

if TYPE_CHECKING:
    from pyarrow import parquet as types

LARGE_PART_BYTES = 1 << 28
"""A batch repeats a value of a column's dictionary once a row; it is made of so few rows that this is not exceeded."""
PACKED_TIGHT = 50
"""A column that is packed to less than one byte in so many holds long values that are alike."""


class Parquet(Reader):
    """A row has no line; it is numbered from 1."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    compressible: ClassVar[bool] = False

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file; raises DataError."""
        import pyarrow
        from pyarrow import parquet

        self.refuse_disguise(file)
        number = 0
        try:
            with (
                reading(file.path),
                parquet.ParquetFile(file.path, memory_map=True, pre_buffer=False) as opened,
            ):
                _refuse_bomb(opened.metadata, file)
                rows = ArrowRows(
                    file.name, opened.schema_arrow, Unpacked(file.path, file.source.max_unpack_ratio)
                )
                for group in range(opened.num_row_groups):
                    size = _batch_rows(opened.metadata.row_group(group))
                    for batch in opened.iter_batches(size, row_groups=[group], use_threads=False):
                        for row in rows.rows(batch):
                            number = rows.number
                            yield row
        except (pyarrow.ArrowException, UnicodeDecodeError, OverflowError) as error:
            got = f"{file.name}, behind row {number}: {error}"
            remedy = "it is damaged or was cut off: copy or download it again"
            raise DataError(
                Problem(f"{file.name} is not a parquet file that can be read", got, "", remedy)
            ) from error


def _refuse_bomb(metadata: types.FileMetaData, file: DataFile) -> None:
    """Raise DataError where the file itself says that it becomes too large."""
    unpacked = Unpacked(file.path, file.source.max_unpack_ratio)
    unpacked.add(LEAST_ROW_BYTES * metadata.num_rows)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = (group.column(at).total_uncompressed_size for at in range(group.num_columns))
        unpacked.add(max(group.total_byte_size, sum(columns)))


def _batch_rows(group: types.RowGroupMetaData) -> int:
    """Return of how many rows a batch is made, few where a column may hold a long value in very little room."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    longest = max(
        (
            chunk.total_uncompressed_size
            for chunk in chunks
            if chunk.has_dictionary_page
            and chunk.total_uncompressed_size > PACKED_TIGHT * chunk.total_compressed_size
        ),
        default=0,
    )
    return max(1, min(BATCH_ROWS, LARGE_PART_BYTES // max(1, longest)))
