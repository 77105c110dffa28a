"""Share of answers that are the data's answer, whether letters are capitals or not."""

from __future__ import annotations

from ._base import ShareMetric


class ToyLetters(ShareMetric):
    """For answers in which capitals do not matter."""

    title = "the data's answer, capitals or not"
    higher_is_better = True

    def score(self, answer: str, reference: str) -> float:
        """Return 1 if both texts have the same words, else 0."""
        return float(answer.casefold().split() == reference.casefold().split())
