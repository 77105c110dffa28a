"""Text files read as a stream: plain or compressed (.gz, .zst), in any Unicode encoding, or another one given by name.

Text that cannot be decoded raises a DataError with the file, the line and the byte.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

from ...core.errors import DataError, Problem
from .decompression import USUAL_RATIO, CountedBytes, Unpacked
from .encodings import codec_of, not_in_encoding
from .file_signatures import disguise

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSED = (".gz", ".zst")
MEASURED_BYTES = 64 << 20
"""Compressed files up to this size are decompressed once before they are read, to find decompression bombs: that takes
seconds, reading the rows takes minutes."""
HEAD_BYTES = 1 << 16
BLOCK_BYTES = 1 << 20
LONGEST_TEXT = 1 << 26
"""Characters of a line or document; a longer one cannot be a row, and would fill the memory."""


class _Zstandard(io.RawIOBase):
    """The content of a zstandard file, decompressed by pyarrow, which is a dependency anyway."""

    def __init__(self, path: Path) -> None:
        import pyarrow

        self._content = pyarrow.input_stream(str(path), compression="zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        content = self._content.read(len(view))
        view[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._content.close()
        super().close()


def open_bytes(path: Path, ratio: float = USUAL_RATIO) -> BinaryIO:
    """Open a file, or the decompressed content of a .gz or .zst file.

    Raises OSError, EOFError or zlib.error, here or while reading, and DataError if the content exceeds `ratio` times
    the size of the file.
    """
    if path.suffix.lower() not in COMPRESSED:
        return path.open("rb")
    open_packed = gzip.GzipFile if path.suffix.lower() == ".gz" else _Zstandard
    counted = CountedBytes(cast(BinaryIO, open_packed(path)), Unpacked(path, ratio))
    return io.BufferedReader(counted, BLOCK_BYTES)


def _refuse_bomb(path: Path, ratio: float) -> None:
    """Decompress a file once without parsing it; raises DataError if it becomes too large.

    Other errors are ignored here, as reading the file raises them again.
    """
    if path.suffix.lower() not in COMPRESSED or path.stat().st_size > MEASURED_BYTES:
        return
    with open_bytes(path, ratio) as content:
        try:
            while content.read(BLOCK_BYTES):
                pass
        except (OSError, EOFError, zlib.error):
            return


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert errors of the system and of decompression to DataError."""
    try:
        yield
    except PermissionError as error:
        raise DataError(
            Problem(
                f"{path} cannot be opened: permission denied",
                str(error),
                "a file that you are allowed to read",
                f"chmod u+r '{path}'",
            )
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        remedy = "it is damaged or incomplete: copy or download it again"
        raise DataError(Problem(f"{path} cannot be read to the end", str(error), remedy=remedy)) from error


@contextmanager
def open_text(
    path: Path,
    encoding: str = "auto",
    newline: str | None = None,
    suffixes: tuple[str, ...] = (),
    ratio: float = USUAL_RATIO,
) -> Iterator[TextIO]:
    r"""Open a text file as a stream; raises DataError, here and while it is read, for content that is not text.

    `newline` is as in open(): None turns every line end into `\n`. Also refused are a file whose content is of another
    kind than `suffixes`, and a compressed one that becomes more than `ratio` times as large.
    """
    with reading(path):
        _refuse_bomb(path, ratio)
    with reading(path), open_bytes(path, ratio) as content:
        head = content.read(HEAD_BYTES)
        found = disguise(head, suffixes)
        if found is not None:
            raise DataError(found.problem(path))
        codec = codec_of(head) if encoding == "auto" else encoding
        if not head.strip(codecs.BOM_UTF8 + b" \t\r\n\0"):
            _refuse_blank(path, head, content)
        with (
            open_bytes(path, ratio) as again,
            io.TextIOWrapper(again, encoding=codec, newline=newline) as text,
        ):
            try:
                yield text
            except UnicodeDecodeError as error:
                raise DataError(
                    _place_of_error(path, codec, error, asked=encoding != "auto", ratio=ratio)
                ) from error


def _refuse_blank(path: Path, head: bytes, content: BinaryIO) -> None:
    """Raise DataError if a file holds only white space or zero bytes."""
    if not head:
        raise DataError(Problem(f"{path} is empty", "0 bytes", "at least one row"))
    while block := content.read(BLOCK_BYTES):
        if block.strip(b" \t\r\n\0"):
            return
    raise DataError(Problem(f"{path} is empty", "only white space", "at least one row"))


def _place_of_error(path: Path, codec: str, error: UnicodeDecodeError, asked: bool, ratio: float) -> Problem:
    """Read a file again to find the line and the byte that cannot be decoded with `codec`."""
    decoder = codecs.getincrementaldecoder(codec)()
    read_bytes, line = 0, 1
    with open_bytes(path, ratio) as content:
        while True:
            block = content.read(BLOCK_BYTES)
            read_bytes += len(block)
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as again:
                # The decoder may hold the first bytes of a character from the block before.
                kept = read_bytes - len(again.object)
                good = again.object[: again.start].decode(codec, errors="replace")
                line += good.count("\n")
                rest = again.object + content.read(BLOCK_BYTES)
                return not_in_encoding(path, codec, line, kept + again.start, rest, again.start, asked)
            if not block:
                return Problem(f"{path} changed while it was read", str(error))
