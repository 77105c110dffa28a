"""Chooses the held-out rows by a seeded hash of their content, so equal rows are never on both sides of the split."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, Problem
from ..checks._row_text import RowText
from .store import KEY_BYTES

MOST_BY_SHARE = 200
USUAL_SHARE = 0.1
LEAST_ROWS = 10
"""With fewer held-out rows, the held-out loss is mostly noise."""
MOST_OF_FEW = 0.25
"""The maximum share of a small file that is held out, so that enough is left to train on."""


def choose_held_out(
    keys_R16: NDArray[np.uint8], usable_R: NDArray[np.bool_], held_out: float | str, seed: int
) -> NDArray[np.bool_]:
    """Return which of R rows are held out; raises DataError if nothing would be left to train on.

    `held_out` is as in the settings: auto, a share of the usable rows (rounded down, at most 200) or a number of
    rows. Rows with equal content keys are held out together, so copies may exceed the number.
    """
    usable = np.flatnonzero(usable_R)
    wanted = rows_held_out(held_out, len(usable))
    chosen = np.zeros(len(usable_R), dtype=bool)
    if not wanted or not len(usable):
        return chosen
    keys = np.ascontiguousarray(keys_R16[usable]).view(f"V{KEY_BYTES}").ravel()
    unique, kind_of, copies = np.unique(keys, return_inverse=True, return_counts=True)
    order = sorted(range(len(unique)), key=lambda kind: _seeded(unique[kind].tobytes(), seed))
    taken = _kinds_taken(copies[order], wanted)
    if taken >= len(unique):
        shown = held_out if isinstance(held_out, str) else f"{held_out:g}"
        got = f"data.held_out={shown} of {len(usable)} rows, {len(unique)} of them different"
        usual = _kinds_taken(copies[order], rows_held_out("auto", len(usable)))
        remedy = "data.held_out=auto" if 0 < usual < len(unique) else "data.held_out=0"
        raise DataError(Problem("nothing would be left to train on", got, "fewer rows held out", remedy))
    chosen[usable] = np.isin(kind_of, order[:taken])
    return chosen


def _kinds_taken(copies_K: NDArray[np.int64], wanted: int) -> int:
    """Return how many of K distinct rows are held out to get `wanted` rows, given the copies of each."""
    return int(np.searchsorted(np.cumsum(copies_K), wanted)) + 1 if wanted else 0


def rows_held_out(held_out: float | str, rows: int) -> int:
    """Return how many of `rows` rows are to be held out."""
    if isinstance(held_out, str):
        return min(MOST_BY_SHARE, max(int(USUAL_SHARE * rows), min(LEAST_ROWS, int(MOST_OF_FEW * rows))))
    # 1e-9 compensates for floating-point error: 0.29 * 100 is 28.999999999999996.
    return int(held_out) if held_out >= 1 else min(MOST_BY_SHARE, int(held_out * rows + 1e-9))


def rows_to_spare(keys_R16: NDArray[np.uint8], usable_R: NDArray[np.bool_], least: int) -> int:
    """Return how many rows may be held out: a quarter, at least `least`, at most 10; 0 if there are fewer than twice
    `least` rows.

    Equal rows count once, as they are held out together.
    """
    different = len(np.unique(keys_R16[usable_R], axis=0)) if usable_R.any() else 0
    if different < 2 * least:
        return 0
    return min(LEAST_ROWS, max(least, int(MOST_OF_FEW * different)))


def _seeded(key: bytes, seed: int) -> bytes:
    return hashlib.blake2b(key, key=str(seed).encode(), digest_size=KEY_BYTES).digest()


def content_key(text: RowText) -> bytes:
    """Return a key that is equal for rows with the same content, ignoring case, whitespace, punctuation, full-width
    forms and system texts."""
    return text.fingerprint.normal.to_bytes(KEY_BYTES, "little")
