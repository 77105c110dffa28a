"""Plain text: documents, with empty lines between them, each a row with the column `text`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from ..bad_rows import BadRow
from ..conversation import Row
from ..rows import Found
from ._base import DataFile, Reader


class Txt(Reader):
    """A document ends at an empty line."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    prose: ClassVar[bool] = True

    def read(self, file: DataFile) -> Found:
        """Yield a file's documents, each with the line it begins on; raises DataError."""
        with self.text(file) as text:
            for number, document in _documents(text):
                yield document_row(document, file.name, number)
        file.notes.append(f"{file.name}: each part between empty lines is a row with the column 'text'")


def document_row(text: str, source: str, line: int) -> Row | BadRow:
    """Make a row of a document; zero bytes make it one that cannot be used."""
    if "\0" in text:
        return BadRow(f"{source}:{line}", "it holds a NUL byte", "the file may be damaged, or no text")
    return Row({"text": text}, source, line)


def _documents(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield (line it begins on, text) of each run of lines that are not empty."""
    begun, kept = 0, list[str]()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            begun = begun if kept else number
            kept.append(line)
        elif kept:
            yield begun, "".join(kept).rstrip("\n")
            kept = []
    if kept:
        yield begun, "".join(kept).rstrip("\n")
