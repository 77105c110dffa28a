"""The better of two answers shall be more likely than the worse by a margin.

loss = sum max(0, margin - (log p(chosen) - log p(rejected))) / number of pairs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ._base import LossSum, SequenceObjective
from ._log_probs import sequence_log_probs

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.example import Example
    from ._outputs import Outputs


class ToyMargin(SequenceObjective):
    """Settings of the toy: the margin."""

    title: ClassVar[str] = "Toy margin"
    forms: ClassVar[frozenset[str]] = frozenset({"preference"})
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    example: ClassVar[Mapping[str, object]] = {"margin": 1.0}

    margin: float = Field(gt=0, allow_inf_nan=False)
    """By how much, in nats; it has no default, so that help texts and tests need `example`."""

    def weight(self, examples: Sequence[Example]) -> float:
        """Return the number of pairs."""
        return float(len(examples))

    def features(self, outputs: Outputs) -> Tensor:
        """Return the log-probability of each sequence (S,)."""
        return sequence_log_probs(outputs)

    def feature_loss(
        self, features_S: Tensor, examples: Sequence[Example], reference: Tensor | None = None
    ) -> LossSum:
        """Return the summed hinge loss of whole pairs."""
        better_E, worse_E = features_S.reshape(-1, 2).T
        gaps_E = better_E - worse_E
        return LossSum((self.margin - gaps_E).relu().sum(), {"accuracy": (gaps_E > 0).float().sum()})
