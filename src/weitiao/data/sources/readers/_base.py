"""The base class of readers: the suffixes of their files, and how a file becomes a stream of rows."""

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
    """A file to read, with the settings of its source."""

    path: Path
    source: SourceSettings
    notes: list[str]
    """The list to which notes for the user are appended."""

    @property
    def name(self) -> str:
        """The file's name in the locations of its rows."""
        return str(self.path)


class Reader(ABC):
    """The reader for one kind of file; each module in this folder defines one subclass."""

    suffixes: ClassVar[tuple[str, ...]]
    """The suffixes of such files, in lower case."""
    compressible: ClassVar[bool] = True
    """Whether it is text, which may also be compressed as .gz or .zst."""
    prose: ClassVar[bool] = False
    """Whether it holds documents; a folder that also has files of rows leaves them out, as they describe the data."""

    example: ClassVar[str] = ""
    """The text of a small file, for tests; empty for a binary file."""

    @abstractmethod
    def read(self, file: DataFile) -> Found:
        """Yield the rows of a file, using memory that does not grow with its size; raises DataError."""

    def text(self, file: DataFile, newline: str | None = None) -> AbstractContextManager[TextIO]:
        """Open a text file with its encoding; raises DataError, here and while it is read."""
        source = file.source
        return open_text(file.path, source.encoding, newline, self.suffixes, source.max_unpack_ratio)

    def refuse_disguise(self, file: DataFile) -> None:
        """Raise DataError if the first bytes of a binary file show that it is of another kind."""
        with reading(file.path), file.path.open("rb") as content:
            found = disguise(content.read(HEAD_BYTES), self.suffixes)
        if found is not None:
            raise DataError(found.problem(file.path))


def bare_suffix(path: Path) -> str:
    """Return the suffix of a name in lower case, ignoring the .gz or .zst of a compressed file."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in COMPRESSED else suffix
