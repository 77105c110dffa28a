"""Supervised fine-tuning: the likelihood of the answers' tokens, given everything before them.

    loss = sum_t w_t * -log p(x_t | x_<t) / sum_t w_t

over the tokens t of all answers of a step, their end-of-turn tokens included.
"""

from __future__ import annotations

from typing import ClassVar

from ._base import LossSum, Objective, Outputs


class SupervisedFineTuning(Objective):
    """Cross-entropy at the trained tokens."""

    title: ClassVar[str] = "Supervised fine-tuning (SFT)"
    forms: ClassVar[frozenset[str]] = frozenset({"conversation", "text", "pair", "tokens"})

    def loss(self, outputs: Outputs) -> LossSum:
        """Return the weighted sum of the trained tokens' negative log-likelihoods, in nats."""
        from ._cross_entropy import cross_entropy_sum

        return LossSum(sum=cross_entropy_sum(outputs), weight=outputs.weights_K.sum())
