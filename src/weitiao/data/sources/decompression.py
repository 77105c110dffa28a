"""Limits on decompression: a small file that would fill memory or take hours is refused as a decompression bomb."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ...core.errors import DataError, Problem
from ..bad_rows import Found

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ALWAYS_BYTES = 128 << 20
"""The decompressed size that is always allowed, even for the smallest file."""
LEAST_ROW_BYTES = 256
"""The bytes counted for each row, as even an empty row takes memory."""
USUAL_RATIO = 100.0
"""The default limit on decompressed / compressed size; for rows of text this ratio is 3 to 20."""


class Unpacked:
    """Counts the decompressed bytes of a file and enforces the limit."""

    def __init__(self, path: Path, ratio: float = USUAL_RATIO) -> None:
        """Set the limit to `ratio` times the size of the file; raises OSError."""
        self._path, self._packed_bytes = path, path.stat().st_size
        self._most_bytes = max(ALWAYS_BYTES, round(ratio * self._packed_bytes))
        self._ratio, self._bytes = ratio, 0

    def add(self, count: int) -> None:
        """Add `count` bytes; raises DataError if the total exceeds the limit."""
        self._bytes += count
        if self._bytes > self._most_bytes:
            raise DataError(self._bomb())

    def _bomb(self) -> Problem:
        times = self._bytes / max(1, self._packed_bytes)
        return Problem(
            f"{self._path} becomes too large when unpacked, like a decompression bomb",
            f"{self._packed_bytes:,} bytes become {self._bytes:,} or more ({times:,.0f} times as many)",
            f"at most {self._ratio:g} times as many; up to {ALWAYS_BYTES >> 20} MiB are always read",
            f"if the file is what you expect, set max_unpack_ratio: {max(1000, 10 * round(times))} under the source in "
            "data.sources",
        )


def counted_rows(rows: Found, unpacked: Unpacked) -> Found:
    """Yield the rows of a compressed file and count them; raises DataError if there are too many."""
    for one in rows:
        unpacked.add(LEAST_ROW_BYTES)
        yield one


class CountedBytes(io.RawIOBase):
    """The decompressed content of a file; counts the bytes as they are read."""

    def __init__(self, content: BinaryIO, unpacked: Unpacked) -> None:
        self._content, self._unpacked = content, unpacked

    def readable(self) -> bool:
        """Return True, as `io.RawIOBase` requires of a readable stream."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer; raises DataError if the decompressed size exceeds the limit."""
        view = memoryview(buffer)
        content = self._content.read(len(view))
        view[: len(content)] = content
        self._unpacked.add(len(content))
        return len(content)

    def close(self) -> None:
        """Close the compressed file."""
        if not self.closed:
            self._content.close()
        super().close()
