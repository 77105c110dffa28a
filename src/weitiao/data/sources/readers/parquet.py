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
"""The largest size in bytes aimed at for a batch, in which a dictionary-encoded value is repeated for every row."""
PACKED_TIGHT = 50
"""The compression ratio above which a dictionary-encoded column is taken to hold long, repeated values."""


class Parquet(Reader):
    """Reads small batches of each row group; rows have no lines and are numbered from 1."""

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
            got = f"{file.name}, after row {number}: {error}"
            remedy = "it is damaged or incomplete: copy or download it again"
            raise DataError(
                Problem(f"{file.name} cannot be read as a Parquet file", got, "", remedy)
            ) from error


def _refuse_bomb(metadata: types.FileMetaData, file: DataFile) -> None:
    """Raise DataError if the uncompressed sizes that the file declares are too large."""
    unpacked = Unpacked(file.path, file.source.max_unpack_ratio)
    unpacked.add(LEAST_ROW_BYTES * metadata.num_rows)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = (group.column(at).total_uncompressed_size for at in range(group.num_columns))
        unpacked.add(max(group.total_byte_size, sum(columns)))


def _batch_rows(group: types.RowGroupMetaData) -> int:
    """Return the number of rows per batch; it is small if a compressed column may hold long, repeated values."""
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
