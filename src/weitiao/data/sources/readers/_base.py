"""What a reader is: which names its files have, and how one becomes a stream of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TextIO

from ....core.errors import DataError
from ...bad_rows import Found
from ..file_signatures import disguise
from ..text_files import COMPRESSED, HEAD_BYTES, open_text, reading

if TYPE_CHECKING:
    from ...settings import SourceSettings


@dataclass(frozen=True)
class DataFile:
    """A file to be read."""

    path: Path
    source: SourceSettings
    notes: list[str]
    """What a person should know goes here."""

    @property
    def name(self) -> str:
        """What rows call the file they come from."""
        return str(self.path)


class Reader(ABC):
    """One kind of file; each file in this folder derives one class."""

    suffixes: ClassVar[tuple[str, ...]]
    """How such files' names end, in small letters."""
    compressible: ClassVar[bool] = True
    """Whether it is text, which may also be given as .gz or .zst."""
    prose: ClassVar[bool] = False
    """Whether it holds documents, which a folder of rows has beside them as its description."""

    @abstractmethod
    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file, in memory that does not grow with it; raises DataError."""

    def text(self, file: DataFile, newline: str | None = None) -> AbstractContextManager[TextIO]:
        """Open a text file in its encoding; raises DataError here and while it is read."""
        source = file.source
        return open_text(file.path, source.encoding, newline, self.suffixes, source.max_unpack_ratio)

    def refuse_disguise(self, file: DataFile) -> None:
        """Raise DataError where a binary file's first bytes show it to be of another kind."""
        with reading(file.path), file.path.open("rb") as content:
            found = disguise(content.read(HEAD_BYTES), self.suffixes)
        if found is not None:
            raise DataError(found.problem(file.path))


def bare_suffix(path: Path) -> str:
    """Return how a name ends, without the .gz or .zst of a compressed file."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in COMPRESSED else suffix
