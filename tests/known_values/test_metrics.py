"""Metrics of answers against published examples and against their definition, computed another way."""

from __future__ import annotations

import itertools
import random

import pytest

from weitiao.evaluation.metrics.exact_match import ExactMatch
from weitiao.evaluation.metrics.rouge_l import RougeL, longest_common_subsequence


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("police kill the gunman", 3 / 4),
        ("the gunman kill police", 2 / 4),
        ("gunman the killed police", 1 / 4),
    ],
)
def test_rouge_l_of_lins_examples(answer: str, wanted: float) -> None:
    """Lin 2004, section 3.1: against `police killed the gunman`; lengths are equal, so P = R = F1."""
    assert RougeL().score(answer, "police killed the gunman") == pytest.approx(wanted)


def test_rouge_l_is_f1_of_precision_and_recall() -> None:
    lcs, own, wanted = 2, 5, 3
    precision, recall = lcs / own, lcs / wanted
    found = RougeL().score("so it really is Paris", "It's: PARIS!")  # its words: it, s, paris
    assert found == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("我是小微", "我叫小微", 3 / 4),
        ("我 是 小 微。", "我是小微", 1),
        ("나는 학생", "나는 선생", 3 / 4),
        ("GPT4很好", "gpt4 不好", 4 / 6),
        ("?!", "?!", 1),
        ("?!", "!?", 0),
        ("", "Paris", 0),
        ("ÉCOLE", "école", 1),
    ],
)
def test_rouge_l_of_scripts_and_of_texts_without_words(answer: str, reference: str, wanted: float) -> None:
    assert RougeL().score(answer, reference) == pytest.approx(wanted)


def subsequences(words: str) -> set[tuple[str, ...]]:
    """Return every subsequence of the letters."""
    return {one for size in range(len(words) + 1) for one in itertools.combinations(words, size)}


def test_the_longest_common_subsequence_is_the_longest_of_all_common_ones() -> None:
    generator = random.Random(0)
    for _ in range(60):
        one, other = ("".join(generator.choices("abc", k=generator.randint(0, 8))) for _ in range(2))
        longest = max(map(len, subsequences(one) & subsequences(other)))
        assert longest_common_subsequence(one, other) == longest_common_subsequence(other, one) == longest


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("Paris", "Paris", 1),
        (" Paris\n", "Paris", 1),
        ("New  York", "New\nYork", 1),
        ("paris", "Paris", 0),
        ("Paris.", "Paris", 0),
        ("", "Paris", 0),
        ("巴黎", "巴黎", 1),
    ],
)
def test_exact_match(answer: str, reference: str, wanted: float) -> None:
    assert ExactMatch().score(answer, reference) == wanted
    assert ExactMatch().of([answer, "x", "y", "z"], [reference, "x", "y", "q"]) == (wanted + 2) / 4
