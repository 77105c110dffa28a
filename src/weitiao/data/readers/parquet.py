"""Parquet files, read by parts of a row group."""

from __future__ import annotations

from typing import ClassVar

from ...core.errors import DataError, Problem
from ..conversation import Row
from ..rows import Found
from ..text_files import reading
from ._base import DataFile, Reader

BATCH_ROWS = 1000


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
                for batch in opened.iter_batches(BATCH_ROWS, use_threads=False):
                    for number, fields in enumerate(batch.to_pylist(), start=number + 1):  # noqa: B020
                        yield Row(fields, file.name, number)
        except pyarrow.ArrowException as error:
            got = f"{file.name}, behind row {number}: {error}"
            remedy = "it is damaged or was cut off: copy or download it again"
            raise DataError(
                Problem(f"{file.name} is not a parquet file that can be read", got, "", remedy)
            ) from error
