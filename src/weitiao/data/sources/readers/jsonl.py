"""JSON lines: an object a line."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from ...bad_rows import Found
from ..json_parser import jsonl_rows, read_leniently
from ._base import DataFile, Reader


class JsonLines(Reader):
    """A broken line is one row that cannot be used; the others are read."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file; raises DataError."""
        yield from read_leniently(partial(self.text, file), jsonl_rows, file.name, file.notes)
