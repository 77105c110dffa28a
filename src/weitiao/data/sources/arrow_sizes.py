"""The uncompressed sizes that an Arrow file declares for its compressed buffers, read before decompression.

Each compressed buffer begins with its uncompressed length (8 bytes). The offsets of the buffers are in the metadata of
each record batch, a flatbuffer
(https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

FILE_MARK = b"ARROW1"
FOOTER_END_BYTES = 10
"""The size of the file's end: the footer's length (4 bytes) and the magic bytes `ARROW1`."""
CONTINUES = -1
"""The continuation marker before a message's length, since Arrow 0.15."""
DICTIONARY, BATCH = 2, 3
"""The types of messages that hold buffers."""
BUFFER_BYTES, BLOCK_BYTES = 16, 24
ALIGNED_BYTES = 8


class BadArrow(ValueError):
    """A file with an offset that points outside the file, or a negative length."""


def unpacked_sizes(path: Path) -> Iterator[int]:
    """Yield, per batch, the uncompressed bytes of the compressed buffers of an Arrow file or stream; raises BadArrow,
    OSError.
    """
    if not path.stat().st_size:
        return
    known: dict[int, int] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            places = (
                _places_in_file(content)
                if content[: len(FILE_MARK)] == FILE_MARK
                else _places_in_stream(content)
            )
            for place in places:
                if place not in known:
                    known[place] = _unpacked_bytes(content, place)
                yield known[place]
        except (struct.error, IndexError) as error:
            raise BadArrow("a message points outside the file") from error


def _places_in_file(content: mmap.mmap) -> Iterator[int]:
    """Yield the offsets of the messages listed in a file's footer."""
    end = len(content) - FOOTER_END_BYTES
    footer = _root(content, end - _int32(content, end))
    for field in (2, 3):  # dictionaries, record batches
        first, count = _vector(content, footer, field)
        for number in range(count):
            yield _int64(content, first + number * BLOCK_BYTES)


def _places_in_stream(content: mmap.mmap) -> Iterator[int]:
    """Yield the offsets of the messages of a stream."""
    place = 0
    while place + 4 <= len(content):
        metadata, length = _metadata(content, place)
        if length == 0:
            return
        yield place
        message = _root(content, metadata)
        size = _field(content, message, 3)
        body = _int64(content, size) if size else 0
        if body < 0:
            raise BadArrow("a message has a negative length")
        place = _aligned(metadata + length) + _aligned(body)


def _metadata(content: mmap.mmap, place: int) -> tuple[int, int]:
    """Return the offset and the length in bytes of a message's metadata."""
    length = _int32(content, place)
    start = place + 4
    if length == CONTINUES:
        length, start = _int32(content, start), start + 4
    if length < 0:
        raise BadArrow("a message has a negative length")
    return start, length


def _unpacked_bytes(content: mmap.mmap, place: int) -> int:
    """Return the uncompressed bytes of the compressed buffers of the message at offset `place`."""
    metadata, length = _metadata(content, place)
    message = _root(content, metadata)
    kind, header = _field(content, message, 1), _table(content, message, 2)
    number = content[kind] if kind else 0
    if number == DICTIONARY:
        header = _table(content, header, 1)
    if number not in (DICTIONARY, BATCH) or not header or not _field(content, header, 3):
        return 0
    body = metadata + length
    first, count = _vector(content, header, 2)
    places = (first + each * BUFFER_BYTES for each in range(count))
    # A length of -1 means that the buffer is stored uncompressed.
    return sum(
        max(0, _int64(content, body + _int64(content, at))) for at in places if _int64(content, at + 8)
    )


def _root(content: mmap.mmap, at: int) -> int:
    """Return the offset of the table that the flatbuffer offset at `at` refers to."""
    return at + _int32(content, at)


def _field(content: mmap.mmap, table: int, number: int) -> int:
    """Return the offset of a table's field, or 0 if the field is absent."""
    offsets = table - _int32(content, table)
    place = 4 + 2 * number
    has = place < struct.unpack_from("<H", content, offsets)[0]
    offset = struct.unpack_from("<H", content, offsets + place)[0] if has else 0
    return table + int(offset) if offset else 0


def _table(content: mmap.mmap, table: int, number: int) -> int:
    """Return the offset of the table in a field, or 0 if the field is absent."""
    field = _field(content, table, number)
    return _root(content, field) if field else 0


def _vector(content: mmap.mmap, table: int, number: int) -> tuple[int, int]:
    """Return the offset and the number of a vector field's items; (0, 0) if the field is absent."""
    field = _field(content, table, number)
    if not field:
        return 0, 0
    start = _root(content, field)
    return start + 4, _int32(content, start)


def _int32(content: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("<i", content, at)[0]) if at >= 0 else _outside()


def _int64(content: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("<q", content, at)[0]) if at >= 0 else _outside()


def _outside() -> int:
    raise BadArrow("a message points outside the file")


def _aligned(count: int) -> int:
    return -(-count // ALIGNED_BYTES) * ALIGNED_BYTES
