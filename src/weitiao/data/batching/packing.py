"""A step cut into packs: examples laid end to end without padding, positions restarting at each.

Examples that begin alike share the rows of what they have in common, which pass through the model once: a branch
holds its own tokens, its positions continue from where it left, and it sees what stands before it in its example.

Shapes: T tokens of a pack, S segments in it, K trained targets, P rows that predict them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..conversation import Example
from .prefix_tree import Branch, find_branches

Rows = NDArray[np.int64]
Interval = tuple[int, int]
"""The first row, and the one after the last."""

FILLER_ROWS = 128
"""Rows of a filler segment at most: attention costs their square, and nothing reads them."""


@dataclass(frozen=True)
class Segment:
    """The rows an example has to itself, and those it sees before them."""

    start: int
    end: int
    context: tuple[Interval, ...] = ()
    """What stands before the segment's first token in its example, in the order of its tokens."""


@dataclass(frozen=True)
class Pack:
    """Examples end to end; only what the model and the objective need."""

    ids_T: Rows
    positions_T: Rows
    """Positions in their example: 0, 1, ... from the beginning of each."""
    segments: tuple[Segment, ...]
    """The pack from left to right, depth first: a segment's context stands before it."""
    kept_P: Rows
    """The positions in 0..T-1 the head is applied at: those with a next token that carries weight, ascending."""
    rows_K: Rows
    """Which of the P predicts each target: before a branch one predicts the first tokens of several."""
    targets_K: Rows
    weights_K: NDArray[np.float32]
    """A target's weight, added up over the examples that share it."""
    examples: tuple[Example, ...]
    rows: tuple[Rows, ...]
    """For each of the examples, the rows its tokens stand at, first to last, shared ones included."""
    filler: int = 0
    """How many rows at the end belong to no example: they are seen by none, and nothing is predicted from them."""

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each segment begins, and at the end T: S + 1 numbers."""
        return (*(segment.start for segment in self.segments), len(self.ids_T))

    @property
    def longest(self) -> int:
        """The tokens of the longest segment."""
        return max(end - start for start, end in pairwise(self.starts))

    @property
    def shares(self) -> bool:
        """Whether anything in it is shared."""
        return any(segment.context for segment in self.segments)


def make_pack(examples: Sequence[Example], share: bool = True, fill_to: int | None = None) -> Pack:
    """Lay examples end to end; the target of the last token of one is never the first of the next.

    With `share`, what examples have in common at their beginning stands once, and its targets weigh as much as in all
    of them together. Whatever is drawn at random for a token (dropout) is then drawn once for all that share it. With
    `fill_to`, rows without meaning follow up to its next multiple, so that packs of different examples are as long.
    """
    branches = find_branches(examples) if share else _none_shared(examples)
    total = sum(len(examples[b.index].ids) - b.shared for b in branches)
    ids_T, positions_T, before_T = (np.zeros(total, dtype=np.int64) for _ in range(3))
    weights_T = np.zeros(total, dtype=np.float32)
    rows_of: dict[int, Rows] = {}
    segments = []
    end = 0
    for branch in branches:
        example = examples[branch.index]
        start, end = end, end + len(example.ids) - branch.shared
        context = (
            rows_of[branch.parent][: branch.shared] if branch.parent is not None else np.zeros(0, np.int64)
        )
        rows = rows_of[branch.index] = np.concatenate([context, np.arange(start, end)])
        ids_T[start:end] = example.ids[branch.shared :]
        positions_T[start:end] = np.arange(branch.shared, len(rows))
        before_T[rows[1:]] = rows[:-1]
        # Nothing stands before an example's first token to predict it from.
        weights_T[rows[1:]] += np.asarray(example.weights[1:], dtype=np.float32)
        if end > start:
            segments.append(Segment(start, end, tuple(_intervals(context))))
    filler = -total % fill_to if fill_to else 0
    targets = np.flatnonzero(weights_T)
    kept_P, rows_K = np.unique(before_T[targets], return_inverse=True)
    return Pack(
        ids_T=np.pad(ids_T, (0, filler)),
        positions_T=np.pad(
            positions_T, (0, filler)
        ),  # 0 is a position in every model, however short its context
        segments=(*segments, *_filler_segments(total, total + filler)),
        kept_P=kept_P,
        rows_K=rows_K,
        targets_K=ids_T[targets],
        weights_K=weights_T[targets],
        examples=tuple(examples[branch.index] for branch in branches),
        filler=filler,
        rows=tuple(rows_of[branch.index] for branch in branches),
    )


def _filler_segments(start: int, end: int) -> Iterator[Segment]:
    """Yield segments of at most FILLER_ROWS rows from `start` to `end`."""
    for first in range(start, end, FILLER_ROWS):
        yield Segment(first, min(first + FILLER_ROWS, end))


def _none_shared(examples: Sequence[Example]) -> list[Branch]:
    return [Branch(index, None, 0) for index in range(len(examples))]


def _intervals(rows: Rows) -> Iterator[Interval]:
    """Yield the runs of consecutive numbers in `rows`."""
    if len(rows):
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            yield int(run[0]), int(run[-1]) + 1


def cut_into_packs(
    examples: Sequence[Example], pack_tokens: int, share: bool = True, fill: bool = False
) -> list[Pack]:
    """Group a step's examples into packs of at most `pack_tokens` tokens, first fit decreasing.

    Examples that begin alike go into one pack as far as it holds them, and count without what they share. An example
    longer than the budget gets a pack of its own; examples that train nothing are left out. With `fill`, every pack
    has `pack_tokens` rows, one of an example longer than that the next multiple.
    """
    trained = sorted((e for e in examples if e.trained_tokens), key=lambda e: -len(e.ids))
    bins: list[tuple[int, list[Example]]] = []
    runs = _runs(trained, pack_tokens) if share else [(len(e.ids), [e]) for e in trained]
    for length, run in sorted(runs, key=lambda one: -one[0]):
        for index, (used, members) in enumerate(bins):
            if used + length <= pack_tokens:
                bins[index] = (used + length, [*members, *run])
                break
        else:
            bins.append((length, run))
    return [make_pack(members, share, pack_tokens if fill else None) for _, members in bins]


def _runs(examples: Sequence[Example], pack_tokens: int) -> list[tuple[int, list[Example]]]:
    """Return the examples of each tree with their tokens, cut where they would be more than `pack_tokens`."""
    runs: list[tuple[int, list[Example]]] = []
    for branch in find_branches(examples):
        example = examples[branch.index]
        # Depth first, what a branch shares with its parent it shares with the one right before it.
        own = len(example.ids) - branch.shared
        if branch.parent is not None and runs[-1][0] + own <= pack_tokens:
            runs[-1] = (runs[-1][0] + own, [*runs[-1][1], example])
        else:
            runs.append((len(example.ids), [example]))
    return runs
