"""Which rows are held out: a seeded function of their content, so equal rows never stand on both sides."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, Problem
from ..checks._row_text import RowText

MOST_BY_SHARE = 200
USUAL_SHARE = 0.1
LEAST_ROWS = 10
"""With fewer, chance decides what a held-out loss says."""
MOST_OF_FEW = 0.25
"""The share of a small file that is held out at most, so that enough is left to train on."""
KEY_BYTES = 16


def choose_held_out(
    keys_R16: NDArray[np.uint8], usable_R: NDArray[np.bool_], held_out: float | str, seed: int
) -> NDArray[np.bool_]:
    """Return which of R rows are kept away; raises DataError where nothing would be left to train on.

    `held_out` is as in the settings: auto, a share of the usable rows (rounded down, at most 200) or a number of
    rows. Rows whose content keys are equal go together, so the number may be exceeded by copies.
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
    """Return how many of K different rows are held out for `wanted` rows, where each stands there so many times."""
    return int(np.searchsorted(np.cumsum(copies_K), wanted)) + 1 if wanted else 0


def rows_held_out(held_out: float | str, rows: int) -> int:
    """Return how many of `rows` rows are to be held out."""
    if isinstance(held_out, str):
        return min(MOST_BY_SHARE, max(int(USUAL_SHARE * rows), min(LEAST_ROWS, int(MOST_OF_FEW * rows))))
    return int(held_out) if held_out >= 1 else min(MOST_BY_SHARE, int(held_out * rows + 1e-9))


def rows_to_spare(keys_R16: NDArray[np.uint8], usable_R: NDArray[np.bool_], least: int) -> int:
    """Return how many rows may be held out, 10 at most; 0 where fewer than twice `least` are there.

    A quarter is taken, at least `least`. Equal rows count once, as they are held out together.
    """
    different = len(np.unique(keys_R16[usable_R], axis=0)) if usable_R.any() else 0
    if different < 2 * least:
        return 0
    return min(LEAST_ROWS, max(least, int(MOST_OF_FEW * different)))


def _seeded(key: bytes, seed: int) -> bytes:
    return hashlib.blake2b(key, key=str(seed).encode(), digest_size=KEY_BYTES).digest()


def content_key(text: RowText) -> bytes:
    """Return what rows that say the same have in common; case, blanks, punctuation, width and system do not enter."""
    return text.fingerprint.normal.to_bytes(KEY_BYTES, "little")
