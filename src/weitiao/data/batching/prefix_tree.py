"""Which sequences begin alike: a tree whose branches leave one another at any token.

A sequence that begins as an earlier one does branches off it: the tokens they share need to be in a pack only once.
One tree serves system prompts, few-shot headers, answer choices, pairs, groups of answers and turns.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..example import TokenSequence

SHORTEST_SHARED = 8
"""Where a branch costs attention what it saves there (SmolLM2-135M, CPU); all else it saves is gain."""


@dataclass(frozen=True)
class Branch:
    """A sequence as part of a tree."""

    index: int
    """Which of the sequences it is."""
    parent: int | None
    """The sequence it leaves, which stands before it; None where it begins a tree."""
    shared: int
    """How many of its first tokens stand there already."""


def find_branches(sequences: Sequence[TokenSequence]) -> list[Branch]:
    """Return one branch a sequence, depth first: whatever leaves a branch comes right after it, deepest first.

    Trees, and branches that leave at one token, keep the order of the sequences, whatever their tokens are. A
    sequence's tokens are shared with the earlier one that has most of them in common, SHORTEST_SHARED at least.
    """
    found: list[Branch] = []
    begun: list[tuple[tuple[int, ...], int]] = []
    for index, sequence in enumerate(sequences):
        place = bisect_left(begun, (sequence.ids, index))
        # In sorted order what has most in common stands beside.
        beside = begun[max(0, place - 1) : place + 1]
        shared, other = max(((_common(sequence.ids, ids), -i) for ids, i in beside), default=(0, 0))
        parent = None if shared < SHORTEST_SHARED else -other
        while parent is not None and shared <= found[parent].shared:  # it leaves what the other left
            parent = found[parent].parent
        found.append(Branch(index, parent, 0 if parent is None else shared))
        insort(begun, (sequence.ids, index))
    return list(_depth_first(found))


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many first tokens two sequences share."""
    length = min(len(one), len(other))
    if one[:SHORTEST_SHARED] != other[:SHORTEST_SHARED]:
        return 0  # too few to matter, without looking further
    differ = np.flatnonzero(np.asarray(one[:length]) != np.asarray(other[:length]))
    return int(differ[0]) if len(differ) else length


def _depth_first(branches: Sequence[Branch]) -> Iterator[Branch]:
    leaving: dict[int | None, list[Branch]] = {}
    for branch in branches:
        leaving.setdefault(branch.parent, []).append(branch)
    waiting = leaving.get(None, [])[::-1]
    while waiting:
        branch = waiting.pop()
        yield branch
        # The last one pushed comes first: the deepest, and of these the earliest.
        waiting += sorted(leaving.get(branch.index, []), key=lambda one: (one.shared, -one.index))
