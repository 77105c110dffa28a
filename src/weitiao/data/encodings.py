"""Bytes to text: UTF-8 and UTF-16 are read, anything else is refused with the likely encoding and how to
convert."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError, Problem

# UTF-32's little-endian mark begins with UTF-16's, so it is looked for first.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LEAST_PLAUSIBLE = 0.6
SAMPLE_CHARACTERS = 20_000
COMMON_LATIN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœÀÁÂÄÇÈÉÊËÍÎÑÓÔÖØÙÚÛÜ«»‘’“”–—…€£°§¿¡·©®™\u00a0")


@dataclass(frozen=True)
class Candidate:
    """An encoding a file may be in, and which of its encoded characters are common in real text."""

    codec: str
    title: str
    iconv: str
    common: Callable[[str, bytes], bool]


def _common_gbk(_: str, encoded: bytes) -> bool:
    # GB2312's punctuation and its 3,755 most frequent characters (level 1)
    return (
        len(encoded) == 2
        and encoded[1] >= 0xA1
        and (0xA1 <= encoded[0] <= 0xA3 or 0xB0 <= encoded[0] <= 0xD7)
    )


def _common_big5(_: str, encoded: bytes) -> bool:
    # Big5's punctuation and its 5,401 frequent characters (level 1)
    return len(encoded) == 2 and 0xA1 <= encoded[0] <= 0xC6


def _common_shift_jis(character: str, encoded: bytes) -> bool:
    kana_or_punctuation = "\u3000" <= character <= "\u30ff" or "\uff01" <= character <= "\uff5e"
    return len(encoded) == 2 and (kana_or_punctuation or 0x88 <= encoded[0] <= 0x97)


def _common_latin(character: str, _: bytes) -> bool:
    return character in COMMON_LATIN


CANDIDATES = (
    Candidate("gb18030", "GBK/GB18030", "GB18030", _common_gbk),
    Candidate("big5", "Big5", "BIG5", _common_big5),
    Candidate("cp932", "Shift-JIS", "SHIFT_JIS", _common_shift_jis),
    Candidate("cp1252", "Latin-1/Windows-1252", "WINDOWS-1252", _common_latin),
)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8 or UTF-16, with or without a byte order mark; raises DataError for another
    encoding."""
    content = path.read_bytes()
    for mark, codec in MARKS:
        if content.startswith(mark):
            return _decode(content, codec, path)
    if b"\0" in content[:4000]:
        return _decode(content, "utf-16-le" if content[1:2] == b"\0" else "utf-16-be", path)
    return _decode(content, "utf-8", path)


def _decode(content: bytes, codec: str, path: Path) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        raise DataError(_not_unicode(content, codec, error, path)) from error


def _not_unicode(content: bytes, codec: str, error: UnicodeDecodeError, path: Path) -> Problem:
    line = content.count(b"\n", 0, error.start) + 1
    got = f"{path}:{line}, byte {error.start} is 0x{content[error.start]:02x}"
    likely = likely_encoding(content) if codec == "utf-8" else None
    if likely is None:
        return Problem(f"{path} is not text in {codec.upper()}", got, "text in UTF-8")
    converted = path.with_name(f"{path.stem}.utf8{path.suffix}")
    command = f"iconv -f {likely.iconv} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(converted))}"
    return Problem(f"{path} is not in UTF-8; it looks like {likely.title}", got, "text in UTF-8", command)


def likely_encoding(content: bytes) -> Candidate | None:
    """Guess an encoding: the strict decoding whose characters beyond ASCII are mostly common ones; None if
    none is."""
    scored = [(_plausibility(content, candidate), -rank) for rank, candidate in enumerate(CANDIDATES)]
    best, rank = max(scored)
    return CANDIDATES[-rank] if best >= LEAST_PLAUSIBLE else None


def _plausibility(content: bytes, candidate: Candidate) -> float:
    """Return the share of common characters among those beyond ASCII; 0 where the bytes cannot be decoded."""
    try:
        text = content.decode(candidate.codec)
    except UnicodeDecodeError:
        return 0.0
    foreign = [character for character in text if character > "\x7f"][:SAMPLE_CHARACTERS]
    common = sum(candidate.common(c, c.encode(candidate.codec)) for c in foreign)
    return common / len(foreign) if foreign else 0.0
