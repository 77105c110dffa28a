"""JSON: a list of objects, an object that holds one list, or concatenated objects."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from ...bad_rows import Found
from ..json_parser import json_rows, read_leniently
from ._base import DataFile, Reader


class Json(Reader):
    """Parses elements one by one, so that files of any size fit in memory."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    example: ClassVar[str] = '[{"question": "What boils at 100 °C?", "answer": "Water."}]\n'

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file; raises DataError."""
        yield from read_leniently(partial(self.text, file), json_rows, file.name, file.notes)
