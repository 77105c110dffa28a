"""How much a packed file may become: a small one that fills memory or takes hours is a decompression bomb."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ...core.errors import DataError, Problem
from ..bad_rows import Found

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ALWAYS_BYTES = 128 << 20
"""So much is always read, however small the file."""
LEAST_ROW_BYTES = 256
"""What a row takes in memory, however little it takes in its file."""
USUAL_RATIO = 100.0
"""Rows of text take 3 to 20 times the room of their packed file."""


class Unpacked:
    """Counts the bytes that a packed file becomes."""

    def __init__(self, path: Path, ratio: float = USUAL_RATIO) -> None:
        """Take the file and how many times its size it may become; raises OSError."""
        self._path, self._packed_bytes = path, path.stat().st_size
        self._most_bytes = max(ALWAYS_BYTES, round(ratio * self._packed_bytes))
        self._ratio, self._bytes = ratio, 0

    def add(self, count: int) -> None:
        """Count more bytes; raises DataError where there are too many."""
        self._bytes += count
        if self._bytes > self._most_bytes:
            raise DataError(self._bomb())

    def _bomb(self) -> Problem:
        times = self._bytes / max(1, self._packed_bytes)
        return Problem(
            f"{self._path} becomes too large when it is unpacked, as a decompression bomb does",
            f"{self._packed_bytes:,} bytes become {self._bytes:,} or more ({times:,.0f} times as many)",
            f"at most {self._ratio:g} times as many; up to {ALWAYS_BYTES >> 20} MiB are always read",
            f"if the file is what you expect, max_unpack_ratio: {max(1000, 10 * round(times))} under the source in "
            "data.sources",
        )


def counted_rows(rows: Found, unpacked: Unpacked) -> Found:
    """Yield the rows of a packed file; raises DataError where there are too many."""
    for one in rows:
        unpacked.add(LEAST_ROW_BYTES)
        yield one


class CountedBytes(io.RawIOBase):
    """The content of a packed file, counted while it is read."""

    def __init__(self, content: BinaryIO, unpacked: Unpacked) -> None:
        self._content, self._unpacked = content, unpacked

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer; raises DataError where the file has become too large."""
        view = memoryview(buffer)
        content = self._content.read(len(view))
        view[: len(content)] = content
        self._unpacked.add(len(content))
        return len(content)

    def close(self) -> None:
        """Close the packed file."""
        if not self.closed:
            self._content.close()
        super().close()
