"""Hashes and sketches of texts: equal texts have equal ones, similar texts have similar sketches.

A sketch is one permutation hashing (https://proceedings.neurips.cc/paper/2012/hash/eaa32c96f620053cf442ad32258076b9-Abstract.html)
of the set of a text's character 4-grams, with empty bins filled by rotation
(https://proceedings.mlr.press/v32/shrivastava14.html): 32 bins of 8 bits. The share of equal bins estimates the Jaccard
similarity J of the sets with a standard error of sqrt(J (1 - J) / 32).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PLANE = 0x10000
MEANING = frozenset("+*/%=<>^#$@&|~°√×÷±")
"""Signs that, unlike punctuation, change the meaning: 3+5 is not 3*5."""
SHINGLE = 4
BINS = 32
BIN_BITS = 5
LEAST_SHINGLES = 30
"""A shorter text is too short to be compared."""
FIRST_WIDE, WIDE_SHINGLES = 0x2E80, (2, 3)
"""From this code point on, a character carries as much as several letters of an alphabet, so shingles are shorter."""
MOST_SHINGLES = 4096
"""Of a long text, only the lowest hashes are kept, as a sample."""
FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5)
"""Odd 64-bit multipliers of the shingles' hash, one per character of a shingle."""


def codes_of(text: str) -> NDArray[np.uint32]:
    """Return the code points of a text (N,)."""
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def normal_codes(text: str) -> NDArray[np.uint32]:
    """Return the normalised code points of a text (N,): composed (NFC), each then by NFKC and casefolded, without
    whitespace, punctuation (except `MEANING`), control characters and `DIACRITICS`."""
    codes = codes_of(text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text))
    if len(codes) and int(codes.max()) >= PLANE:
        table = _normal_table()
        plain = codes < PLANE
        mapped = codes.copy()
        mapped[plain] = table[codes[plain]]
    else:
        mapped = _normal_table()[codes]
    kept: NDArray[np.uint32] = mapped[mapped > 0]
    return kept


DIACRITICS = (
    (0x0300, 0x036F), (0x0483, 0x0489), (0x0591, 0x05C7), (0x0610, 0x061A), (0x064B, 0x065F), (0x0670, 0x0670),
    (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0x3099, 0x309A), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F),
)  # fmt: skip
"""First and last code point of marks that a text may have or lack: accents, vowel points of Hebrew and Arabic,
variation selectors. The marks of Devanagari, Thai and other scripts are vowels, which tell words apart."""


@cache
def _normal_table() -> NDArray[np.uint32]:
    import numpy as np

    return np.fromiter(_normal_forms(), dtype=np.uint32, count=PLANE)


def _normal_forms() -> Iterator[int]:
    """Yield for each code point its normalised one; 0 for those that are ignored."""
    for code in range(PLANE):
        whole = unicodedata.normalize("NFKC", chr(code)).casefold()
        one = whole if len(whole) == 1 else chr(code)
        category = unicodedata.category(one)[0]
        passed_over = (category in "PZC" and one not in MEANING) or (
            category == "M" and _is_diacritic(ord(one))
        )
        yield 0 if passed_over and not 0xD800 <= code < 0xF900 else ord(one)


def _is_diacritic(code: int) -> bool:
    return any(first <= code <= last for first, last in DIACRITICS)


def hash_of(content: bytes) -> int:
    """Return 8 bytes of hash as a number below 2**64, the same in every process."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def sketch_of(codes: NDArray[np.uint32]) -> bytes:
    """Return the sketch of normalised characters; zeros for a text too short to be compared."""
    if len(codes) < LEAST_SHINGLES + SHINGLE - 1:
        return bytes(BINS)
    hashes = _hashes(codes, SHINGLE)
    hashes.sort()
    return _filled(hashes)


def sketch_of_shingles(hashes: NDArray[np.uint32]) -> bytes:
    """Return the sketch of sorted hashes of shingles; zeros if there are none."""
    return _filled(hashes) if len(hashes) else bytes(BINS)


def shingles_of(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the distinct hashes of the shingles of normalised characters, sorted, at most the lowest `MOST_SHINGLES`.

    A shingle has 4 characters of an alphabet, or 2 or 3 Chinese or Japanese characters.
    """
    import numpy as np

    is_wide = codes >= FIRST_WIDE
    narrow = _hashes(codes, SHINGLE)
    parts = [narrow[~is_wide[: len(narrow)]]]
    for size in WIDE_SHINGLES if is_wide.any() else ():
        hashes = _hashes(codes, size)
        parts.append(hashes[is_wide[: len(hashes)]])
    found = np.sort(np.concatenate(parts))
    different: NDArray[np.uint32] = found[np.diff(found, prepend=found[:1] + np.uint32(1)) != 0]
    return different[:MOST_SHINGLES]


def _hashes(codes: NDArray[np.uint32], size: int) -> NDArray[np.uint32]:
    """Return a hash of each window of `size` characters, in order."""
    import numpy as np

    wide = codes.astype(np.uint64)
    count = max(0, len(wide) - size + 1)
    mixed = wide[:count] * np.uint64(FACTORS[0])
    for offset in range(1, size):
        mixed += wide[offset : offset + count] * np.uint64(FACTORS[offset])
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(FACTORS[1])
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _filled(hashes: NDArray[np.uint32]) -> bytes:
    """Return the lowest byte of each bin's smallest hash; an empty bin takes that of the next non-empty bin."""
    import numpy as np

    begins = hashes.searchsorted(_bin_begins())
    # For an empty bin, searchsorted already finds the next non-empty one; after the last bin, wrap around to the first.
    begins[begins == len(hashes)] = 0
    low = (hashes[begins] & np.uint32(0xFF)).astype(np.uint8)
    return low.tobytes()


@cache
def _bin_begins() -> NDArray[np.uint32]:
    import numpy as np

    return (np.arange(BINS, dtype=np.uint64) << np.uint64(32 - BIN_BITS)).astype(np.uint32)
