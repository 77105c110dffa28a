"""Finds near duplicates, ignoring boilerplate: text that many rows share (an instruction, a prompt's end, JSON keys).

Sketches of whole rows (_prints.py) find pairs that are nearly equal, but also pairs that only share an instruction. So
the rows of each group found are read again, and compared by their shingles (character n-grams) without the boilerplate.
The cost is linear in the number of rows that share much text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

from ._base import GateOutcome
from ._prints import BANDS, Prints, edges_in_band, first_of_equals, joined_groups
from ._row_text import RowText
from ._sketch import BINS, shingles_of, sketch_of_shingles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shingles = NDArray[np.uint32]
    """The distinct hashes of a row's shingles, sorted (S,)."""

SAMPLE_ROWS = 512
"""Number of rows sampled to find boilerplate."""
ALL_SHARE, ALL_LEAST = 0.2, 8
"""A shingle is boilerplate if it is in at least this share and this number of all rows. With few rows, it is enough
to be in nearly all of them."""
GROUP_SHARE, GROUP_LEAST = 0.2, 16
"""Like `ALL_SHARE` and `ALL_LEAST`, within a group of similar rows."""
FIXED_SHARE, FIXED_LEAST = 0.8, 4
"""In a group of at least `FIXED_LEAST` rows, shingles in all rows but one, or in this share of them, are candidates for
a fixed text. They are boilerplate if most of the rows contain all of them and have other text too. Edited copies of one
row, in contrast, each lack the words that were changed in them."""
ALIKE = 0.5
"""Two rows with at least this Jaccard similarity, without boilerplate, are near duplicates."""
CANDIDATE_BINS = 10
"""If two sketches have at least this many equal bins, the shingles themselves are compared."""
LEAST_SHINGLES = 16
"""A row with fewer shingles besides boilerplate has too little text to be compared."""
PAIRWISE_ROWS = 8
"""In groups of up to this many rows, every pair is compared."""
DEEPEST = 4
"""Maximum depth of splitting groups: all rows may share one fixed text, and the rows of each task another."""
REMEMBERED_ROWS = 1024


def near_groups(prints: Prints, outcome: GateOutcome) -> NDArray[np.int64]:
    """Return for each row the first row that it equals or nearly equals (R,), else the row itself.

    Without texts in `outcome`, boilerplate is not ignored.
    """
    texts = outcome.texts
    if texts is None:
        return prints.near_groups()
    numbers = prints.array("numbers")
    comparison = RowComparison(prints, lambda row: texts(int(numbers[row])))
    return outcome.once(numbers.tobytes(), comparison.near_groups)


@dataclass
class RowComparison:
    """Compares rows by the text that they do not share with many others; rows are indices into `prints`."""

    prints: Prints
    text: Callable[[int], RowText]

    def near_groups(self) -> NDArray[np.int64]:
        """Return for each row the first row that it equals or nearly equals (R,), else the row itself."""
        import numpy as np

        first_R, near_R = first_of_equals(self.prints.array("normal")), self.prints.near_groups().copy()
        different = np.flatnonzero(first_R == np.arange(len(first_R)))
        groups = _groups(different, near_R[different])
        shared = self._shared_by_all(different) if groups else _none()
        for rows in groups:
            near_R[rows] = rows
            for part in self._parts(rows, shared):
                near_R[part] = part[0]
        joined_R: NDArray[np.int64] = near_R[first_R]
        return joined_R

    def _shared_by_all(self, rows: NDArray[np.int64]) -> Shingles:
        sample = [self._shingles(row) for row in _sample(rows)]
        shingles, counts = _counted(sample)
        least = min(max(ALL_LEAST, ALL_SHARE * len(sample)), max(FIXED_LEAST, FIXED_SHARE * len(sample)))
        return shingles[counts >= least]

    def _parts(
        self, rows: NDArray[np.int64], shared: Shingles, depth: int = 1
    ) -> Iterator[NDArray[np.int64]]:
        """Yield the parts (of two or more rows) of a group whose rows are similar without boilerplate."""
        import numpy as np

        found = _boilerplate([_without(self._shingles(row), shared) for row in _sample(rows)])
        known = np.union1d(shared, found)
        group_N = self._by_pairs(rows, known) if len(rows) <= PAIRWISE_ROWS else self._by_bands(rows, known)
        for part in _groups(rows, group_N):
            if depth < DEEPEST and (len(found) or len(part) < len(rows)):
                yield from self._parts(part, known, depth + 1)
            else:
                yield part

    def _by_pairs(self, rows: NDArray[np.int64], shared: Shingles) -> NDArray[np.int64]:
        """Return for each of N rows the lowest index of its connected component (N,), by comparing all pairs."""
        import numpy as np

        own = [self._own(row, shared) for row in rows]
        pairs = [(one, two) for one, two in combinations(range(len(rows)), 2) if _alike(own[one], own[two])]
        return joined_groups(np.arange(len(rows)), np.array(pairs, dtype=np.int64).reshape(-1, 2).T)

    def _by_bands(self, rows: NDArray[np.int64], shared: Shingles) -> NDArray[np.int64]:
        """Return the same as `_by_pairs` (N,), by comparing only rows whose sketches share a band."""
        import numpy as np

        sketches = b"".join(sketch_of_shingles(self._own(row, shared)) for row in rows)
        sketch_N32 = np.frombuffer(sketches, dtype=np.uint8).reshape(-1, BINS)
        compared = np.flatnonzero(sketch_N32.any(axis=1))
        group_N = np.arange(len(rows))
        for band in BANDS if len(compared) > 1 else ():
            edges = edges_in_band(sketch_N32[compared], band, group_N[compared], CANDIDATE_BINS)
            edges = compared[edges]
            alike = [_alike(*(self._own(rows[one], shared) for one in edge)) for edge in edges.T]
            group_N = joined_groups(group_N, edges[:, np.array(alike, dtype=bool)])
        return group_N

    def _own(self, row: int, shared: Shingles) -> Shingles:
        """Return a row's shingles without boilerplate; none if there are too few."""
        own = _without(self._shingles(row), shared)
        return own if len(own) >= LEAST_SHINGLES else _none()

    @cached_property
    def _shingles(self) -> Callable[[int], Shingles]:
        return lru_cache(REMEMBERED_ROWS)(lambda row: shingles_of(self.text(row).codes))


def _boilerplate(sample: Sequence[Shingles]) -> Shingles:
    """Return the boilerplate shingles of a group of similar rows, from a sample of them."""
    import numpy as np

    shingles, counts = _counted(sample)
    often = shingles[counts >= max(GROUP_LEAST, GROUP_SHARE * len(sample))]
    if len(sample) < FIXED_LEAST:
        return often
    fixed = shingles[counts >= min(FIXED_SHARE * len(sample), len(sample) - 1)]
    lacking = [len(fixed) - len(np.intersect1d(fixed, own, assume_unique=True)) for own in sample]
    beside = [len(own) + lack - len(fixed) for own, lack in zip(sample, lacking, strict=True)]
    is_text = 2 * lacking.count(0) > len(sample) and np.median(beside) >= LEAST_SHINGLES
    return np.union1d(often, fixed) if is_text else often


def _counted(sample: Sequence[Shingles]) -> tuple[Shingles, NDArray[np.int64]]:
    """Return the distinct shingles of some rows, and how many rows have each."""
    import numpy as np

    return np.unique(np.concatenate(sample), return_counts=True)


def _sample(rows: NDArray[np.int64]) -> list[int]:
    """Return up to `SAMPLE_ROWS` of the rows, evenly spaced."""
    import numpy as np

    chosen: list[int] = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE_ROWS)).astype(int)].tolist()
    return chosen


def _groups(rows: NDArray[np.int64], group_N: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each group of two or more, in order."""
    import numpy as np

    order = np.argsort(group_N, kind="stable")
    cuts = np.flatnonzero(np.diff(group_N[order])) + 1
    return [part for part in np.split(rows[order], cuts) if len(part) > 1]


def _without(shingles: Shingles, shared: Shingles) -> Shingles:
    if not len(shared):
        return shingles
    places = shared.searchsorted(shingles)
    places[places == len(shared)] = 0
    own: Shingles = shingles[shared[places] != shingles]
    return own


def _alike(one: Shingles, two: Shingles) -> bool:
    import numpy as np

    common = len(np.intersect1d(one, two, assume_unique=True))
    return common > 0 and common >= ALIKE * (len(one) + len(two) - common)


def _none() -> Shingles:
    import numpy as np

    return np.zeros(0, dtype=np.uint32)
