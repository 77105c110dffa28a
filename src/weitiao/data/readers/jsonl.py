"""JSON lines: an object a line."""

from __future__ import annotations

from typing import ClassVar

from ..json_rows import jsonl_rows
from ..rows import Found
from ._base import DataFile, Reader


class JsonLines(Reader):
    """A broken line is one row that cannot be used; the others are read."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file; raises DataError."""
        with self.text(file) as text:
            yield from jsonl_rows(text, file.name, file.notes)
