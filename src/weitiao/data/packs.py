"""A step cut into packs: examples laid end to end without padding, positions restarting at each.

Shapes: T tokens of a pack, S examples in it, K positions whose next token is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .conversation import Example


@dataclass(frozen=True)
class Pack:
    """Examples end to end; only what the model and the objective need."""

    ids_T: NDArray[np.int64]
    positions_T: NDArray[np.int64]
    """Positions that restart at 0 with each example."""
    starts: tuple[int, ...]
    """Where each example begins, and at the end T: S + 1 numbers."""
    kept_K: NDArray[np.int64]
    """The positions in 0..T-1 the head is applied at: those whose next token carries weight."""
    targets_K: NDArray[np.int64]
    weights_K: NDArray[np.float32]
    examples: tuple[Example, ...]

    @property
    def longest(self) -> int:
        """The tokens of the longest example."""
        return max(end - start for start, end in pairwise(self.starts))


def make_pack(examples: Sequence[Example]) -> Pack:
    """Lay examples end to end; the target of the last token of one is never the first of the next."""
    lengths = [len(example.ids) for example in examples]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids_T = np.concatenate([np.asarray(e.ids, dtype=np.int64) for e in examples])
    weights_T = np.concatenate([np.asarray(e.weights, dtype=np.float32) for e in examples])
    weights_T[starts[:-1]] = 0.0  # nothing stands before an example's first token to predict it from
    target_positions = np.flatnonzero(weights_T)
    return Pack(
        ids_T=ids_T,
        positions_T=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
        starts=tuple(int(s) for s in starts),
        kept_K=target_positions - 1,
        targets_K=ids_T[target_positions],
        weights_K=weights_T[target_positions],
        examples=tuple(examples),
    )


def cut_into_packs(examples: Sequence[Example], pack_tokens: int) -> list[Pack]:
    """Group a step's examples into packs of at most `pack_tokens` tokens, first fit decreasing.

    An example longer than the budget gets a pack of its own; examples that train nothing are left out.
    """
    bins: list[tuple[int, list[Example]]] = []
    trained = (example for example in examples if example.trained_tokens)
    for example in sorted(trained, key=lambda e: -len(e.ids)):
        length = len(example.ids)
        for index, (used, members) in enumerate(bins):
            if used + length <= pack_tokens:
                bins[index] = (used + length, [*members, example])
                break
        else:
            bins.append((length, [example]))
    return [make_pack(members) for _, members in bins]
