"""Markdown: the whole file is one document, a row with the column `text`; its front matter is left out."""

from __future__ import annotations

import re
from typing import ClassVar

from ...bad_rows import Found
from ..text_files import LONGEST_TEXT
from ._base import DataFile, Reader
from .txt import document_row

FRONT_MATTER = re.compile(r"---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


class Md(Reader):
    """Keeps the text as written, with its Markdown syntax."""

    suffixes: ClassVar[tuple[str, ...]] = (".md", ".markdown")
    prose: ClassVar[bool] = True
    example: ClassVar[str] = "# Ginger\n\nGinger is a flowering plant.\n"

    def read(self, file: DataFile) -> Found:
        """Yield the single row of a file; raises DataError."""
        with self.text(file) as opened:
            text = opened.read(LONGEST_TEXT)
        front = FRONT_MATTER.match(text)
        body = text[front.end() :] if front else text
        if front:
            file.notes.append(f"{file.name}: the front matter was left out")
        line = text.count("\n", 0, len(text) - len(body.lstrip())) + 1
        if body.strip():
            yield document_row(body.strip(), file.name, line)
