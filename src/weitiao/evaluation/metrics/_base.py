"""The interface of a metric: a number for a list of answers, compared with the data's answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from ...core.units import readable_share, significant


class Metric(ABC):
    """One metric; each public file in this folder defines one subclass."""

    title: ClassVar[str]
    """What a person reads; the catalogue has its Chinese."""
    higher_is_better: ClassVar[bool]
    """Whether a larger value is a better one."""

    @abstractmethod
    def of(self, answers: Sequence[str], references: Sequence[str]) -> float | None:
        """Return the value over all answers, each beside its reference in the same order; None if there are none.

        Raises ValueError if their numbers differ.
        """

    def written(self, value: float) -> str:
        """Return a value as text for a person."""
        return significant(value)


class ShareMetric(Metric):
    """A metric that is the mean of a score between 0 and 1 for each answer, shown in percent."""

    @abstractmethod
    def score(self, answer: str, reference: str) -> float:
        """Return the score of one answer, between 0 and 1."""

    def of(self, answers: Sequence[str], references: Sequence[str]) -> float | None:
        """Return the mean score of the answers; None if there are none. Raises as the base does."""
        scores = [self.score(*pair) for pair in zip(answers, references, strict=True)]
        return math.fsum(scores) / len(scores) if scores else None

    def written(self, value: float) -> str:
        """Return a value in percent."""
        return readable_share(value, 1)
