"""Which examples each step sees: for data on disk, a pure function of the data, the seed and the step number."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...core.errors import DataError, Problem
from ...data.batching.sampling import epoch_order
from ...data.example import Example
from ...data.gate.store import draws_of
from ..settings import TrainSettings


class Batches(Protocol):
    """The source of each step's examples: the data, or rollouts."""

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole run."""

    def batch(self, step: int) -> list[Example]:
        """Return the examples of a step (counted from 0)."""

    def ends_epoch(self, step: int) -> bool:
        """Return whether a step (counted from 0) is the last of its epoch."""


@dataclass
class StepPlan:
    """Epochs cut into steps of `batch_size` examples; the last step of an epoch may hold fewer."""

    examples: Sequence[Example]
    batch_size: int
    seed: int
    epochs: float
    steps: int | None = None
    """Total steps; if None, they follow from `epochs`."""
    _starts: list[int] = field(default_factory=lambda: [0], init=False, repr=False)
    """The first step of each epoch computed so far, and of the next one."""
    _draws: list[float] = field(default_factory=list, init=False, repr=False)
    _cached: tuple[int, list[int]] = field(default=(-1, []), init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise DataError if an epoch may be empty."""
        self._draws = draws_of(self.examples)
        seen = sum(self._draws)
        if seen < 1:
            raise DataError(
                Problem(
                    "an epoch holds less than one example",
                    f"{len(self.examples)} examples, seen {seen:g} times an epoch",
                    "at least one",
                    "a larger weight in data.sources",
                )
            )

    @classmethod
    def of(cls, examples: Sequence[Example], train: TrainSettings) -> StepPlan:
        """Return the plan of a run with these settings; one epoch if they set no length."""
        return cls(examples, train.batch_size, train.seed, train.epochs or 1.0, train.steps)

    def order(self, epoch: int) -> list[int]:
        """Return the indices of the epoch's examples, in training order."""
        if self._cached[0] != epoch:
            self._cached = (epoch, epoch_order(self._draws, self.seed, epoch))
        return self._cached[1]

    def steps_in(self, epoch: int) -> int:
        """Return the number of steps of one epoch."""
        return math.ceil(len(self.order(epoch)) / self.batch_size)

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole run; a fraction of an epoch is rounded up to a whole step."""
        if self.steps is not None:
            return self.steps
        whole = math.floor(self.epochs)
        rest = math.ceil((self.epochs - whole) * self.steps_in(whole)) if self.epochs > whole else 0
        return sum(self.steps_in(epoch) for epoch in range(whole)) + rest

    @property
    def seen(self) -> int:
        """Number of examples the whole run sees, repetitions included."""
        total = self.total_steps
        last = self.epoch_of(total - 1)
        in_last = (total - self._starts[last]) * self.batch_size
        whole = sum(len(self.order(epoch)) for epoch in range(last))
        return whole + min(in_last, len(self.order(last)))

    def epoch_of(self, step: int) -> int:
        """Return the epoch of a step (counted from 0)."""
        while self._starts[-1] <= step:
            self._starts.append(self._starts[-1] + self.steps_in(len(self._starts) - 1))
        return bisect_right(self._starts, step) - 1

    def ends_epoch(self, step: int) -> bool:
        """Return whether a step (counted from 0) is the last of its epoch."""
        return self._starts[self.epoch_of(step) + 1] == step + 1

    def batch(self, step: int) -> list[Example]:
        """Return the examples of a step (counted from 0)."""
        epoch = self.epoch_of(step)
        first = (step - self._starts[epoch]) * self.batch_size
        return [self.examples[i] for i in self.order(epoch)[first : first + self.batch_size]]
