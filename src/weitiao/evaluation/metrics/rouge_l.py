"""ROUGE-L: the longest common subsequence of words (LCS), as F1 (Lin 2004, https://aclanthology.org/W04-1013).

    F1 = 2 * LCS / (words of the answer + words of the reference)

Words are compared in lower case, without punctuation. A Chinese character, a kana and a Hangul syllable count as a
word each, because these scripts write few spaces or none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ._base import ShareMetric

ONE_CHARACTER = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters that are a word each, as a range of a regular expression."""
WORD = re.compile(rf"[{ONE_CHARACTER}]|(?:(?![{ONE_CHARACTER}])[^\W_])+")


class RougeL(ShareMetric):
    """For answers in sentences: how much of the reference's wording is there, in its order."""

    title = "ROUGE-L with the data's answer"
    higher_is_better = True

    def score(self, answer: str, reference: str) -> float:
        """Return the F1 of one answer; texts without any word score 1 if they are equal, else 0."""
        own, wanted = WORD.findall(answer.lower()), WORD.findall(reference.lower())
        if not own and not wanted:
            return float(answer.split() == reference.split())
        return 2 * longest_common_subsequence(own, wanted) / (len(own) + len(wanted))


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest sequence of words that both contain in this order, with gaps."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        before = lengths
        lengths = [0]
        for at, candidate in enumerate(other):
            lengths.append(before[at] + 1 if word == candidate else max(before[at + 1], lengths[at]))
    return lengths[-1]
