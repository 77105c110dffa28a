"""JSON lines: an object a line."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from ...bad_rows import Found
from ..json_parser import jsonl_rows, read_leniently
from ._base import DataFile, Reader


class JsonLines(Reader):
    """Reads line by line; an invalid line becomes one bad row, and the other lines are still read."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")
    example: ClassVar[str] = '{"question": "What boils at 100 °C?", "answer": "Water."}\n'

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file; raises DataError."""
        yield from read_leniently(partial(self.text, file), jsonl_rows, file.name, file.notes)
