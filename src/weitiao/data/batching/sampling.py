"""Chooses the examples of an epoch and their order, as a pure function of the seed and the epoch."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence

# Fractions are counted in integer units of 2^-32, so that their sum does not depend on the order of addition.
WHOLE = 1 << 32


def epoch_order(draws: Sequence[float], seed: int, epoch: int) -> list[int]:
    """Return the shuffled indices of the examples of an epoch (counted from 0); example i occurs `draws[i]` times.

    Fractions are drawn by systematic sampling over shuffled examples: every epoch has the rounded sum of the
    fractions, and the rounding error is carried over to the next epoch. Does not touch any global random state.
    """
    if epoch < 0:
        raise ValueError(f"epochs count from 0, got {epoch}")
    generator = random.Random(int.from_bytes(hashlib.sha256(f"{seed}:{epoch}".encode()).digest()))
    chosen = [index for index, times in enumerate(draws) for _ in range(math.floor(times))]
    chosen += _fractional(draws, epoch, generator)
    return _shuffled(chosen, generator)


def _fractional(draws: Sequence[float], epoch: int, generator: random.Random) -> list[int]:
    """Return the examples that are drawn one extra time in this epoch because of their fraction."""
    parts = {index: round(math.modf(times)[0] * WHOLE) for index, times in enumerate(draws)}
    candidates = _shuffled([index for index, part in parts.items() if part], generator)
    # The part of a draw that earlier epochs carried over; half a draw is added to round to the nearest.
    reached = (epoch * sum(parts.values()) + WHOLE // 2) % WHOLE
    chosen = []
    for index in candidates:
        reached += parts[index]
        if reached >= WHOLE:
            chosen.append(index)
            reached -= WHOLE
    return chosen


def _shuffled(indices: list[int], generator: random.Random) -> list[int]:
    # Python guarantees the same random() values in every version, but not the same shuffle().
    keys = [generator.random() for _ in indices]
    return [index for _, index in sorted(zip(keys, indices, strict=True))]
