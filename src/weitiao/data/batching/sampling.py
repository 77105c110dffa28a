"""Which examples an epoch sees, and in which order: a pure function of the seed and the epoch."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence

# Fractions are counted in units of 2^-32, so that their sum does not depend on its order.
WHOLE = 1 << 32


def epoch_order(draws: Sequence[float], seed: int, epoch: int) -> list[int]:
    """Return the indices an epoch (from 0) sees, shuffled; example i stands there `draws[i]` times.

    A fraction is drawn by systematic sampling over shuffled examples: every epoch sees the fractions' sum,
    rounded, and what rounding leaves over is carried to the next epoch. Touches no global random state.
    """
    if epoch < 0:
        raise ValueError(f"epochs count from 0, got {epoch}")
    generator = random.Random(int.from_bytes(hashlib.sha256(f"{seed}:{epoch}".encode()).digest()))
    chosen = [index for index, times in enumerate(draws) for _ in range(math.floor(times))]
    chosen += _fractional(draws, epoch, generator)
    return _shuffled(chosen, generator)


def _fractional(draws: Sequence[float], epoch: int, generator: random.Random) -> list[int]:
    """Return the examples whose fraction of a draw falls into this epoch."""
    parts = {index: round(math.modf(times)[0] * WHOLE) for index, times in enumerate(draws)}
    candidates = _shuffled([index for index, part in parts.items() if part], generator)
    reached = (epoch * sum(parts.values()) + WHOLE // 2) % WHOLE
    chosen = []
    for index in candidates:
        reached += parts[index]
        if reached >= WHOLE:
            chosen.append(index)
            reached -= WHOLE
    return chosen


def _shuffled(indices: list[int], generator: random.Random) -> list[int]:
    # random() is promised to stay the same in every version of Python, shuffle() is not.
    keys = [generator.random() for _ in indices]
    return [index for _, index in sorted(zip(keys, indices, strict=True))]
