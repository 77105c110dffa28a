"""Arrow and Feather files, and the shards of a data set that `datasets` saved; read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from ....core.errors import DataError, Problem
from ...bad_rows import Found
from ..arrow_rows import ArrowRows
from ..arrow_sizes import FILE_MARK, BadArrow, unpacked_sizes
from ..decompression import Unpacked
from ..text_files import reading
from ._base import DataFile, Reader

if TYPE_CHECKING:
    import pyarrow


class Arrow(Reader):
    """Reads record batches; rows have no lines and are numbered from 1."""

    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")
    compressible: ClassVar[bool] = False

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file; raises DataError."""
        import pyarrow

        self.refuse_disguise(file)
        number = 0
        try:
            with reading(file.path):
                _refuse_bomb(file)
            with reading(file.path), pyarrow.memory_map(str(file.path)) as content:
                rows: ArrowRows | None = None
                for batch in _batches(content):
                    # Offsets of a damaged file point outside the mapped memory, which would crash the process.
                    batch.validate(full=True)
                    if rows is None:
                        unpacked = Unpacked(file.path, file.source.max_unpack_ratio)
                        rows = ArrowRows(file.name, batch.schema, unpacked)
                    for row in rows.rows(batch):
                        number = rows.number
                        yield row
        except (pyarrow.ArrowException, BadArrow, UnicodeDecodeError, OverflowError) as error:
            got = f"{file.name}, after row {number}: {error}"
            raise DataError(Problem(f"{file.name} cannot be read as an Arrow file", got)) from error


def _refuse_bomb(file: DataFile) -> None:
    """Raise DataError if the uncompressed sizes that the file declares are too large."""
    unpacked = Unpacked(file.path, file.source.max_unpack_ratio)
    for size in unpacked_sizes(file.path):
        unpacked.add(size)


def _batches(content: pyarrow.MemoryMappedFile) -> Iterator[pyarrow.RecordBatch]:
    """Yield the batches of an Arrow file, or of an Arrow stream as `datasets` writes it; raises ArrowException."""
    import pyarrow

    is_file = content.read(len(FILE_MARK)) == FILE_MARK
    content.seek(0)
    if not is_file:
        yield from pyarrow.ipc.open_stream(content)
        return
    opened = pyarrow.ipc.open_file(content)
    for number in range(opened.num_record_batches):
        yield opened.get_batch(number)
