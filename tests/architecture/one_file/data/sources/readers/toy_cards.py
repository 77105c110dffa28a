"""Flash cards: a line with a question, a tab-free arrow and an answer."""

from __future__ import annotations

from typing import ClassVar

from ...bad_rows import BadRow, Found
from ...conversation import Row
from ._base import DataFile, Reader


class ToyCards(Reader):
    """Reads line by line; a line without an arrow becomes a bad row."""

    suffixes: ClassVar[tuple[str, ...]] = (".toycards",)
    example: ClassVar[str] = "What boils at 100 °C? => Water, at sea level.\n"

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file; raises DataError."""
        with self.text(file) as opened:
            for number, line in enumerate(opened, start=1):
                question, arrow, answer = line.partition(" => ")
                if arrow:
                    yield Row({"question": question, "answer": answer.strip()}, file.name, number)
                elif line.strip():
                    yield BadRow(f"{file.name}:{number}", "a card has no arrow ( => )")
