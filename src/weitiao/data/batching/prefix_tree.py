"""Finds common prefixes of sequences: a tree whose branches may leave each other at any token.

A sequence with the same beginning as an earlier one branches off it; the shared tokens need to be in a pack only once.
The same tree handles system prompts, few-shot headers, answer choices, preference pairs, groups of answers and turns.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..example import TokenSequence

SHORTEST_SHARED = 8
"""Minimum shared tokens of a branch. At this length, the extra cost of a branch in attention equals its savings there
(SmolLM2-135M, CPU); the savings in all other layers are pure gain."""


@dataclass(frozen=True)
class Branch:
    """A sequence as part of a tree."""

    index: int
    """The sequence's index."""
    parent: int | None
    """The index of the earlier sequence that it branches off; None for the root of a tree."""
    shared: int
    """The number of first tokens that it shares with its parent."""


def find_branches(sequences: Sequence[TokenSequence]) -> list[Branch]:
    """Return one branch per sequence in depth-first order: children follow their parent, those that share most first.

    Trees, and branches that leave at the same token, keep the order of the sequences. A sequence shares its beginning
    with the earlier one that has the longest common prefix, if that has at least SHORTEST_SHARED tokens.
    """
    found: list[Branch] = []
    begun: list[tuple[tuple[int, ...], int]] = []
    for index, sequence in enumerate(sequences):
        place = bisect_left(begun, (sequence.ids, index))
        # In sorted order, the sequence with the longest common prefix is a neighbour.
        beside = begun[max(0, place - 1) : place + 1]
        shared, other = max(((_common(sequence.ids, ids), -i) for ids, i in beside), default=(0, 0))
        parent = None if shared < SHORTEST_SHARED else -other
        while (
            parent is not None and shared <= found[parent].shared
        ):  # the parent shares these tokens with its own parent
            parent = found[parent].parent
        found.append(Branch(index, parent, 0 if parent is None else shared))
        insort(begun, (sequence.ids, index))
    return list(_depth_first(found))


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return the length of the common prefix of two sequences; 0 if it is shorter than SHORTEST_SHARED."""
    length = min(len(one), len(other))
    if one[:SHORTEST_SHARED] != other[:SHORTEST_SHARED]:
        return 0  # too short to be shared
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
        # This is a stack: the last one pushed is yielded first, so the one that shares most, and of these the earliest.
        waiting += sorted(leaving.get(branch.index, []), key=lambda one: (one.shared, -one.index))
