"""Splits a step into packs: sequences concatenated without padding, with positions restarting at each.

Sequences with a common prefix can share it: the prefix is in the pack once and passes through the model once. A branch
holds only the tokens after the prefix; its positions continue those of the prefix, and it attends to the prefix.

Shapes: T tokens of a pack (a "row" is an index into them), S sequences in it, K trained targets, P rows that predict
them, M pairs of a target and a sequence that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from ..example import Example, TokenSequence
from .prefix_tree import Branch, find_branches

Int64Array = NDArray[np.int64]
Interval = tuple[int, int]
"""The first row, and the row after the last."""

FILLER_ROWS = 128
"""Maximum rows of a filler segment: the cost of attention is quadratic in them, and nothing uses their output."""


@dataclass(frozen=True)
class Segment:
    """The rows that one sequence adds to the pack, and the earlier rows of the prefix that they attend to."""

    start: int
    end: int
    context: tuple[Interval, ...] = ()
    """The rows of the sequence's shared prefix, in the order of its tokens."""


@dataclass(frozen=True)
class Membership:
    """The pairs of a target and a sequence that it belongs to: a shared target belongs to several sequences."""

    targets_M: Int64Array
    """Indices of targets, 0 to K - 1."""
    sequences_M: Int64Array
    """Indices of sequences, 0 to S - 1."""
    weights_M: NDArray[np.float32]
    """The target's loss weight in that sequence."""


@dataclass(frozen=True)
class Pack:
    """Concatenated sequences, with what the model and the objective need."""

    ids_T: Int64Array
    positions_T: Int64Array
    """Position of each token in its sequence, from 0."""
    segments: tuple[Segment, ...]
    """The segments from left to right, depth first: a segment's context comes before it."""
    kept_P: Int64Array
    """The rows to which the output head is applied, ascending: those followed by a token with a non-zero weight."""
    rows_K: Int64Array
    """For each target, the index in `kept_P` of the row that predicts it; where sequences branch, one row predicts
    several targets."""
    places_K: Int64Array
    """The row of each target, ascending."""
    targets_K: Int64Array
    weights_K: NDArray[np.float32]
    """Each target's weight, summed over the sequences that share it."""
    examples: tuple[Example, ...]
    """The examples of the sequences, whole or in part, in the given order."""
    numbers: tuple[int, ...]
    """Each example's index among all examples of the step."""
    sequences: tuple[TokenSequence, ...]
    owners: tuple[tuple[int, int], ...]
    """For each sequence, the index of its example in `examples`, and its index among the example's sequences."""
    rows: tuple[Int64Array, ...]
    """For each sequence, the rows of its tokens from first to last, including shared ones."""
    filler: int = 0
    """Filler rows at the end: no sequence attends to them, and they predict nothing."""

    @property
    def starts(self) -> tuple[int, ...]:
        """The first row of each segment, then T."""
        return (*(segment.start for segment in self.segments), len(self.ids_T))

    @property
    def longest(self) -> int:
        """Tokens of the longest segment."""
        return max(end - start for start, end in pairwise(self.starts))

    @property
    def shares(self) -> bool:
        """Whether sequences share a prefix."""
        return any(segment.context for segment in self.segments)

    @cached_property
    def membership(self) -> Membership:
        """The targets of each sequence, in order, with their weights in it."""
        targets, sequences, weights = [], [], []
        for number, (sequence, rows) in enumerate(zip(self.sequences, self.rows, strict=True)):
            weights_t = np.asarray(sequence.weights, dtype=np.float32)
            trained = np.flatnonzero(weights_t[1:]) + 1  # the first token is no target: nothing predicts it
            targets.append(np.searchsorted(self.places_K, rows[trained]))
            sequences.append(np.full(len(trained), number, np.int64))
            weights.append(weights_t[trained])
        return Membership(np.concatenate(targets), np.concatenate(sequences), np.concatenate(weights))

    @cached_property
    def by_example(self) -> Int64Array:
        """The indices of the sequences (S,), sorted by example and then by their order within it."""
        return np.array(sorted(range(len(self.owners)), key=self.owners.__getitem__), np.int64)


def make_pack(examples: Sequence[Example], share: bool = True, fill_to: int | None = None) -> Pack:
    """Return a pack of all sequences of some examples; see `pack_of`."""
    return pack_of(all_parts(examples), share, fill_to)


@dataclass(frozen=True)
class Part:
    """A sequence and the example that it belongs to."""

    example: Example
    number: int
    """The sequence's index in the example."""
    at: int
    """The example's index among those given; an example may be given twice."""

    @property
    def sequence(self) -> TokenSequence:
        """The sequence itself."""
        return self.example.sequences[self.number]


def all_parts(examples: Sequence[Example]) -> list[Part]:
    """Return every sequence of every example, in order."""
    return [
        Part(example, number, at)
        for at, example in enumerate(examples)
        for number in range(len(example.sequences))
    ]


def pack_of(parts: Sequence[Part], share: bool = True, fill_to: int | None = None) -> Pack:
    """Concatenate sequences into a pack; the last token of one sequence never predicts the first of the next.

    With `share`, common prefixes are stored once, and each shared target has the sum of its weights. Random values per
    token (dropout) are then drawn once for all sequences that share it. With `fill_to`, filler rows are added up to its
    next multiple, so that packs of different examples have the same length.
    """
    branches = find_branches([part.sequence for part in parts]) if share else _none_shared(parts)
    sequences = [part.sequence for part in parts]
    total = sum(len(sequences[b.index].ids) - b.shared for b in branches)
    ids_T, positions_T, before_T = (np.zeros(total, dtype=np.int64) for _ in range(3))
    weights_T, trained_T = np.zeros(total, dtype=np.float32), np.zeros(total, dtype=bool)
    rows_of: dict[int, Int64Array] = {}
    segments = []
    end = 0
    for branch in branches:
        sequence = sequences[branch.index]
        start, end = end, end + len(sequence.ids) - branch.shared
        context = (
            rows_of[branch.parent][: branch.shared] if branch.parent is not None else np.zeros(0, np.int64)
        )
        rows = rows_of[branch.index] = np.concatenate([context, np.arange(start, end)])
        ids_T[start:end] = sequence.ids[branch.shared :]
        positions_T[start:end] = np.arange(branch.shared, len(rows))
        before_T[rows[1:]] = rows[:-1]
        # A sequence's first token is no target: nothing predicts it.
        weights = np.asarray(sequence.weights[1:], dtype=np.float32)
        weights_T[rows[1:]] += weights
        trained_T[rows[1:]] |= weights != 0
        if end > start:
            segments.append(Segment(start, end, tuple(_intervals(context))))
    filler = -total % fill_to if fill_to else 0
    targets = np.flatnonzero(trained_T)
    kept_P, rows_K = np.unique(before_T[targets], return_inverse=True)
    ordered = [parts[branch.index] for branch in branches]
    examples = {part.at: part.example for part in sorted(ordered, key=lambda part: part.at)}
    numbers = {at: number for number, at in enumerate(examples)}
    return Pack(
        ids_T=np.pad(ids_T, (0, filler)),
        # Position 0 is valid in every model, even one with a very short context.
        positions_T=np.pad(positions_T, (0, filler)),
        segments=(*segments, *_filler_segments(total, total + filler)),
        kept_P=kept_P,
        rows_K=rows_K,
        places_K=targets,
        targets_K=ids_T[targets],
        weights_K=weights_T[targets],
        examples=tuple(examples.values()),
        numbers=tuple(examples),
        sequences=tuple(part.sequence for part in ordered),
        owners=tuple((numbers[part.at], part.number) for part in ordered),
        filler=filler,
        rows=tuple(rows_of[branch.index] for branch in branches),
    )


def _filler_segments(start: int, end: int) -> Iterator[Segment]:
    """Yield segments of at most FILLER_ROWS rows from `start` to `end`."""
    for first in range(start, end, FILLER_ROWS):
        yield Segment(first, min(first + FILLER_ROWS, end))


def _none_shared(parts: Sequence[Part]) -> list[Branch]:
    return [Branch(index, None, 0) for index in range(len(parts))]


def _intervals(rows: Int64Array) -> Iterator[Interval]:
    """Yield the runs of consecutive numbers in `rows`."""
    if len(rows):
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            yield int(run[0]), int(run[-1]) + 1


def cut_into_packs(
    examples: Sequence[Example], pack_tokens: int, share: bool = True, fill: bool = False
) -> list[Pack]:
    """Group a step's examples into packs of at most `pack_tokens` tokens, by first-fit decreasing.

    The sequences of an example stay in one pack if they fit. Examples with a common prefix go into the same pack as
    long as they fit; a shared prefix is counted once. A sequence longer than `pack_tokens` gets a pack of its own.
    Examples without trained tokens are left out. With `fill`, every pack is filled up to `pack_tokens` rows, or, if it
    holds a longer sequence, to the next multiple.
    """
    trained = [part for part in all_parts(examples) if part.example.trained_tokens]
    units = sorted(_units(trained, pack_tokens, share), key=_longest, reverse=True)
    bins: list[tuple[int, list[Part]]] = []
    runs = _runs(units, pack_tokens) if share else [(_tokens(unit, share), unit) for unit in units]
    for length, run in sorted(runs, key=lambda one: -one[0]):
        for index, (used, members) in enumerate(bins):
            if used + length <= pack_tokens:
                bins[index] = (used + length, [*members, *run])
                break
        else:
            bins.append((length, run))
    return [pack_of(members, share, pack_tokens if fill else None) for _, members in bins]


def _units(parts: Sequence[Part], pack_tokens: int, share: bool) -> Iterator[list[Part]]:
    """Yield the units that stay together: all sequences of an example, or single ones if they do not fit in a pack."""
    for _, run in groupby(parts, key=lambda part: part.at):
        unit = list(run)
        if len(unit) == 1 or _tokens(unit, share) <= pack_tokens:
            yield unit
        else:
            yield from ([part] for part in unit)


def _longest(unit: Sequence[Part]) -> int:
    return max(len(part.sequence.ids) for part in unit)


def _tokens(parts: Sequence[Part], share: bool) -> int:
    """Return the number of rows that sequences take in a pack of their own."""
    sequences = [part.sequence for part in parts]
    if len(sequences) == 1 or not share:
        return sum(len(sequence.ids) for sequence in sequences)
    return sum(len(sequences[branch.index].ids) - branch.shared for branch in find_branches(sequences))


def _runs(units: Sequence[list[Part]], pack_tokens: int) -> list[tuple[int, list[Part]]]:
    """Return the units of each prefix tree with their tokens, split so that none exceeds `pack_tokens`."""
    unit_of = [number for number, unit in enumerate(units) for _ in unit]
    first_branches: dict[int, Branch] = {}
    for branch in find_branches([part.sequence for unit in units for part in unit]):
        first_branches.setdefault(unit_of[branch.index], branch)
    runs: list[tuple[int, list[Part]]] = []
    for number, branch in first_branches.items():
        unit = units[number]
        if branch.parent is not None:
            # In depth-first order, a branch shares its prefix not only with its parent, but with the branch before it.
            tokens, before = runs[-1]
            tokens = (
                tokens + len(unit[0].sequence.ids) - branch.shared
                if len(unit) == 1
                else _tokens([*before, *unit], share=True)
            )
            if tokens <= pack_tokens:
                runs[-1] = (tokens, [*before, *unit])
                continue
        runs.append((_tokens(unit, share=True), unit))
    return runs
