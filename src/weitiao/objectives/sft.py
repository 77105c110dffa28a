"""Supervised fine-tuning: the likelihood of the answers' tokens, given everything before them.

    loss = sum_t w_t * -log p(x_t | x_<t) / sum_t w_t

over the tokens t of all answers of a step, their end-of-turn tokens included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ._base import LossSum, Objective
from ._outputs import Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.example import Example


LARGEST_EXPONENT = 700.0
"""Cap on the mean loss, so that exp does not overflow a float."""


class SupervisedFineTuning(Objective):
    """Cross-entropy at the trained tokens."""

    title: ClassVar[str] = "Supervised fine-tuning (SFT)"
    forms: ClassVar[frozenset[str]] = frozenset({"conversation", "text", "pair", "tokens"})

    def weight(self, examples: Sequence[Example]) -> float:
        """Return the summed weights of the trained tokens."""
        return sum(example.loss_weight for example in examples)

    def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
        """Return the weighted sum of the trained tokens' negative log-likelihoods, in nats."""
        from ._cross_entropy import cross_entropy_sum

        return LossSum(sum=cross_entropy_sum(outputs))

    def report(self, mean: float) -> dict[str, float]:
        """Return the perplexity, exp(loss): the number of equally likely tokens the model effectively chooses from."""
        return {"perplexity": math.exp(min(mean, LARGEST_EXPONENT))}
