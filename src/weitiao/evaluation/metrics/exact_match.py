"""Share of answers that are the data's answer, character for character.

White space at both ends, and how much there is in between, does not count.
"""

from __future__ import annotations

from ._base import ShareMetric


class ExactMatch(ShareMetric):
    """For short answers of one right form: labels, names, numbers."""

    title = "exact match with the data's answer"
    higher_is_better = True

    def score(self, answer: str, reference: str) -> float:
        """Return 1 if both texts have the same words in the same order, else 0."""
        return float(answer.split() == reference.split())
