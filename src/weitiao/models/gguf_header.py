"""The header of a GGUF file: what its tensors take, and the same file without its vocabulary.

The gguf library reads a header one number at a time, and transformers reads it anew for the configuration, the
tokenizer and the weights: of a vocabulary of 50,000 tokens and as many merges, each time for seconds. Here it is
walked once, in a moment, and the readers that do not need the vocabulary are given a file without it.
"""

from __future__ import annotations

import mmap
import shutil
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

VERSIONS = (2, 3)
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""The bytes of a value, by the number of its type."""
STRING, ARRAY = 8, 9
PREAMBLE = struct.Struct("<4sIQQ")
"""Magic, version, number of tensors, number of entries."""
DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class HeaderEntry:
    """A key with its value, and where both lie in the file, in bytes."""

    key: str
    start: int
    end: int
    value: str | int | None
    """A string, or a number of 32 bits; None for another kind of value."""
    length: int | None
    """The number of elements of an array; None for another kind of value."""


@dataclass(frozen=True)
class Header:
    """What a GGUF file says before its data."""

    version: int
    entries: dict[str, HeaderEntry]
    tensors: int
    table: bytes
    """The names, shapes, kinds and places of the tensors, as in the file."""
    alignment: int
    """The bytes of which the place of each tensor is a multiple."""
    data_start: int
    elements: int
    """The number of weights."""

    def text(self, key: str) -> str:
        """Return the value of a key that holds a string; empty if there is none."""
        entry = self.entries.get(key)
        return entry.value if entry is not None and isinstance(entry.value, str) else ""

    def number(self, key: str, default: int) -> int:
        """Return the value of a key that holds a number."""
        return _number(self.entries, key, default)

    @property
    def vocabulary(self) -> int:
        """The number of tokens; 0 if the file has none."""
        tokens = self.entries.get("tokenizer.ggml.tokens")
        named = self.number(f"{self.text('general.architecture')}.vocab_size", 0)
        return named or (tokens.length if tokens is not None and tokens.length is not None else 0)


def _number(entries: dict[str, HeaderEntry], key: str, default: int) -> int:
    entry = entries.get(key)
    return entry.value if entry is not None and isinstance(entry.value, int) else default


def read_header(gguf: Path) -> Header:
    """Read a GGUF file's header; raises ValueError if the file is not whole or not in a known version."""
    with gguf.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _Walk(content).header()
        except (struct.error, IndexError, KeyError) as error:
            raise ValueError(f"its header ends or breaks: {error}") from error


class _Walk:
    """Goes through the header of a file, from its first byte."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._at = 0

    def header(self) -> Header:
        _, version, tensors, entries = PREAMBLE.unpack_from(self._content)
        if version not in VERSIONS:
            raise ValueError(f"it is of version {version}, not of {' or '.join(map(str, VERSIONS))}")
        self._at = PREAMBLE.size
        found = {entry.key: entry for entry in (self._entry() for _ in range(entries))}
        start = self._at
        sizes = [self._tensor() for _ in range(tensors)]
        table = self._content[start : self._at]
        alignment = _number(found, "general.alignment", DEFAULT_ALIGNMENT) or DEFAULT_ALIGNMENT
        data_start = -(-self._at // alignment) * alignment
        need = data_start + max((end for _, end in sizes), default=0)
        if need > len(self._content):
            raise ValueError(f"it has {len(self._content):,} bytes of {need:,}")
        elements = sum(size for size, _ in sizes)
        return Header(version, found, tensors, table, alignment, data_start, elements)

    def _entry(self) -> HeaderEntry:
        start = self._at
        key, kind = self._string(), self._take("I")
        value: str | int | None = None
        length: int | None = None
        if kind == STRING:
            value = self._string()
        elif kind == ARRAY:
            length = self._array()
        elif kind in (4, 5):
            value = self._take("I" if kind == 4 else "i")
        else:
            self._at += WIDTHS[kind]
        return HeaderEntry(key, start, self._at, value, length)

    def _array(self) -> int:
        """Go past an array; returns its number of elements."""
        kind, length = self._take("I"), self._take("Q")
        if kind in WIDTHS:
            self._at += length * WIDTHS[kind]
        elif kind == STRING:
            self._pass_strings(length)
        elif kind == ARRAY:
            for _ in range(length):
                self._array()
        else:
            raise ValueError(f"a value of kind {kind} is not known")
        return length

    def _pass_strings(self, count: int) -> None:
        read, content, at = struct.Struct("<Q").unpack_from, self._content, self._at
        for _ in range(count):
            at += 8 + read(content, at)[0]
        self._at = at

    def _tensor(self) -> tuple[int, int]:
        """Go past a line of the table; returns a tensor's number of weights, and where its data ends."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        self._string()
        elements = prod(self._take("Q") for _ in range(self._take("I")))
        block, width = GGML_QUANT_SIZES[GGMLQuantizationType(self._take("I"))]
        return elements, self._take("Q") + elements * width // block

    def _take(self, kind: str) -> int:
        """Return the next number, of one of struct's kinds."""
        number = struct.unpack_from(f"<{kind}", self._content, self._at)[0]
        self._at += struct.calcsize(f"<{kind}")
        return int(number)

    def _string(self) -> str:
        length = self._take("Q")
        if self._at + length > len(self._content):
            raise ValueError("its header ends within a text")
        self._at += length
        return self._content[self._at - length : self._at].decode("utf-8")


def write_without_vocabulary(gguf: Path, header: Header, path: Path) -> None:
    """Write a GGUF file's copy without tokens, merges and what else stands there for each token."""
    kept = [e for e in header.entries.values() if e.length is None or not e.key.startswith("tokenizer.")]
    with gguf.open("rb") as source, path.open("wb") as copy:
        copy.write(PREAMBLE.pack(b"GGUF", header.version, header.tensors, len(kept)))
        for entry in kept:
            source.seek(entry.start)
            copy.write(source.read(entry.end - entry.start))
        copy.write(header.table)
        copy.write(bytes(-copy.tell() % header.alignment))
        source.seek(header.data_start)
        shutil.copyfileobj(source, copy, 1 << 24)
