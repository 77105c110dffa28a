"""Keeps fingerprints of all rows, and finds which rows are equal or similar."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._base import Check, GateContext, RowFacts
from ._sketch import BINS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIKE_BINS = 21
"""Two texts with at least this many equal bins are near duplicates: Jaccard similarity J of about 0.65, several words
in a hundred changed."""
BANDS = tuple((k % BINS, (k * 7 + 11) % BINS, (k * 13 + 22) % BINS) for k in range(24))
"""LSH bands: two rows are compared if all bins of a band are equal. A pair with J = 0.7 shares at least one band with
probability 0.9999."""


@dataclass
class Prints:
    """Fingerprints of R rows, in their order: 64 bytes a row."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    exact: array[int] = field(default_factory=lambda: array("Q"))
    normal: array[int] = field(default_factory=lambda: array("Q"))
    asked: array[int] = field(default_factory=lambda: array("Q"))
    sketches: bytearray = field(default_factory=bytearray)
    _near: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    """Cache of `near_groups`: computing it for a million rows takes seconds."""

    def add(self, row: RowFacts) -> None:
        """Add a row's fingerprint."""
        own = row.text.fingerprint
        self.numbers.append(row.number)
        self.exact.append(own.exact)
        self.normal.append(own.normal)
        self.asked.append(own.asked)
        self.sketches += own.sketch

    def extend(self, other: Prints) -> None:
        """Add the state of a later chunk."""
        self.numbers.extend(other.numbers)
        self.exact.extend(other.exact)
        self.normal.extend(other.normal)
        self.asked.extend(other.asked)
        self.sketches += other.sketches

    def array(self, name: str) -> NDArray[Any]:
        """Return "numbers", "exact", "normal" or "asked" as an array (R,)."""
        import numpy as np

        values: array[int] = {
            "numbers": self.numbers,
            "exact": self.exact,
            "normal": self.normal,
            "asked": self.asked,
        }[name]
        return np.frombuffer(values, dtype=np.int64 if name == "numbers" else np.uint64)

    def near_groups(self) -> NDArray[np.int64]:
        """Return for each row the first row that it equals or resembles (R,), else the row itself."""
        import numpy as np

        if self._near is None or len(self._near) != len(self.numbers):
            sketch_R32 = np.frombuffer(bytes(self.sketches), dtype=np.uint8).reshape(-1, BINS)
            self._near = _near_groups(self.array("normal"), sketch_R32)
        return self._near


def _near_groups(normal_R: NDArray[np.uint64], sketch_R32: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Group equal rows, and rows with similar sketches among those that share a band."""
    import numpy as np

    first_R = first_of_equals(normal_R)
    comparable = np.flatnonzero(sketch_R32.any(axis=1) & (first_R == np.arange(len(first_R))))
    sketches = np.ascontiguousarray(sketch_R32[comparable])
    group = np.arange(len(comparable))
    for band in BANDS if len(comparable) > 1 else ():
        group = joined_groups(group, edges_in_band(sketches, band, group))
    near_R = np.arange(len(first_R))
    near_R[comparable] = comparable[group]
    near: NDArray[np.int64] = near_R[first_R]
    return near


def first_of_equals(values_R: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each value the index of the first that equals it (R,)."""
    import numpy as np

    _, first, kind = np.unique(values_R, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[kind].astype(np.int64)
    return found


def edges_in_band(
    sketch_N32: NDArray[np.uint8],
    band: tuple[int, ...],
    group_N: NDArray[np.int64],
    least_bins: int = ALIKE_BINS,
) -> NDArray[np.int64]:
    """Return pairs (2, E) of rows with an equal band and at least `least_bins` equal bins.

    A row is compared only with the first row of its bucket and the one before it, unless `group_N` already joins them.
    """
    import numpy as np

    key = np.zeros(len(sketch_N32), dtype=np.uint32)
    for index in band:
        key = key * np.uint32(256) + sketch_N32[:, index]
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    starts = np.maximum.accumulate(np.where(np.concatenate(([False], same)), 0, np.arange(len(key))))
    later = np.flatnonzero(np.concatenate(([False], same)))
    pairs = np.concatenate(
        (np.stack((order[later - 1], order[later])), np.stack((order[starts[later]], order[later]))), axis=1
    )
    pairs = pairs[:, group_N[pairs[0]] != group_N[pairs[1]]]
    return pairs[:, _alike(sketch_N32, pairs, least_bins)]


def _alike(
    sketch_N32: NDArray[np.uint8], pairs_2E: NDArray[np.int64], least_bins: int, at_once: int = 1 << 16
) -> NDArray[np.bool_]:
    import numpy as np

    alike = np.zeros(pairs_2E.shape[1], dtype=bool)
    for start in range(0, len(alike), at_once):
        left, right = pairs_2E[:, start : start + at_once]
        equal = (sketch_N32[left] == sketch_N32[right]).sum(axis=1)
        alike[start : start + at_once] = equal >= least_bins
    return alike


def joined_groups(group_N: NDArray[np.int64], edges_2E: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each node the lowest node of its connected component (N,), after adding edges to the groups
    `group_N`."""
    import numpy as np

    # Groups are named by their lowest node, so edges between these names join whole groups. The lowest name spreads
    # along the edges, with pointer jumping (name_N[name_N]), until nothing changes.
    left, right = group_N[edges_2E]
    name_N = np.arange(len(group_N))
    while True:
        lowest = np.minimum(name_N[left], name_N[right])
        before = name_N.copy()
        np.minimum.at(name_N, left, lowest)
        np.minimum.at(name_N, right, lowest)
        name_N = name_N[name_N]
        if (name_N == before).all():
            lowest_N: NDArray[np.int64] = name_N[group_N]
            return lowest_N


class PrintsCheck(Check):
    """A check that compares rows with each other by their fingerprints."""

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self.prints = Prints()

    def observe(self, row: RowFacts) -> None:
        """Add a row's fingerprint."""
        self.prints.add(row)

    def state(self) -> Any:  # noqa: ANN401
        """Return the fingerprints."""
        return self.prints

    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add the state of a later chunk."""
        self.prints.extend(state)
