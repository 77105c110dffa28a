"""Excel files: one sheet with a header, every cell as the text it shows."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, ClassVar
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

from ....core.errors import DataError, Problem, missing_extra, nearest
from ...bad_rows import BadRow, Found
from ...conversation import Row
from ..decompression import Unpacked
from ..text_files import reading
from ._base import DataFile, Reader
from .csv import require_names

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

Cell = (
    str | int | float | bool | datetime.datetime | datetime.date | datetime.time | datetime.timedelta | None
)


CELL_BYTES = 8
"""The bytes counted for each cell, empty ones included."""


class Xlsx(Reader):
    """Reads the first sheet, or the one `sheet` names; dates become ISO text, empty cells ""."""

    suffixes: ClassVar[tuple[str, ...]] = (".xlsx",)
    compressible: ClassVar[bool] = False

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a sheet with their row numbers; raises DataError, MissingExtraError."""
        try:
            import openpyxl
            from openpyxl.utils.exceptions import InvalidFileException
        except ImportError as error:
            raise missing_extra("openpyxl", "xlsx", f"reading {file.name}") from error
        self.refuse_disguise(file)
        damaged = (
            BadZipFile, InvalidFileException, KeyError, ValueError, SyntaxError, TypeError, IndexError,
            AttributeError, NotImplementedError, RuntimeError, OverflowError, ZlibError,
        )  # fmt: skip
        try:
            with reading(file.path):
                _refuse_bomb(file)
                book = openpyxl.load_workbook(file.path, read_only=True, data_only=True)
                try:
                    yield from _rows(_sheet(book, file), file)
                finally:
                    book.close()
        except damaged as error:
            problem = Problem(
                f"{file.name} cannot be read as an Excel file",
                str(error),
                "",
                "open it and save it again",
            )
            raise DataError(problem) from error


def _refuse_bomb(file: DataFile) -> None:
    """Raise DataError if the uncompressed files of the archive are too large; raises BadZipFile."""
    unpacked = Unpacked(file.path, file.source.max_unpack_ratio)
    with ZipFile(file.path) as archive:
        for member in archive.infolist():
            unpacked.add(member.file_size)


def _sheet(book: Workbook, file: DataFile) -> ReadOnlyWorksheet:
    """Return the sheet that `sheet` names, or the first; raises DataError if there is no such sheet."""
    wanted, names = file.source.sheet, book.sheetnames
    if wanted is None:
        if len(names) > 1:
            file.notes.append(
                f"{file.name}: read the sheet {names[0]!r}; it also has {', '.join(map(repr, names[1:]))}"
            )
        return book[names[0]]
    if wanted not in names:
        near = " or ".join(f"data.sources.sheet={name}" for name in nearest(wanted, names))
        raise DataError(
            Problem(f"{file.name} has no sheet {wanted!r}", wanted, "one of " + ", ".join(names), near)
        )
    return book[wanted]


def _rows(sheet: ReadOnlyWorksheet, file: DataFile) -> Found:
    header: list[str] = []
    unpacked = Unpacked(file.path, file.source.max_unpack_ratio)
    # The dimensions a sheet declares may be wrong, and would pad every row with empty cells.
    sheet.reset_dimensions()
    for number, values in enumerate(sheet.iter_rows(values_only=True), start=1):
        unpacked.add(CELL_BYTES * (len(values) + 1))
        cells = [_text(value) for value in values]
        if not any(cells):
            continue
        if not header:
            header = require_names([name.strip() for name in cells], file, number)
        else:
            yield _row(cells, header, file, number)


def _row(cells: list[str], header: list[str], file: DataFile, number: int) -> Row | BadRow:
    """Return the row of a sheet's cells; a bad row if a cell beyond the header's columns holds text."""
    beyond = [cell for cell in cells[len(header) :] if cell]
    if beyond:
        return BadRow(f"{file.name}:{number}", f"it has more than {len(header)} cells", repr(beyond[0][:40]))
    # Excel omits empty cells at the end of a row.
    cells += [""] * (len(header) - len(cells))
    fields = dict(zip(header, cells, strict=False))
    fields.pop("", None)
    return Row(fields, file.name, number)


def _text(value: Cell) -> str:
    """Return a cell as text."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case float() if value.is_integer():
            return str(int(value))
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return str(value)
