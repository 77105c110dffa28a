"""The general questions that come with weitiao: many, varied, in both languages; and which answers are used."""

from __future__ import annotations

from collections import Counter

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from weitiao.data.general_questions import (
    LANGUAGES,
    GeneralQuestion,
    general_questions,
    languages_to_ask,
    question_key,
    why_unusable,
)

EN = GeneralQuestion("Name a color.", "en", "lists")
ZH = GeneralQuestion("说出一种颜色。", "zh", "lists")
TO_CHINESE = GeneralQuestion("Translate hello.", "en", "translating")


@pytest.fixture(scope="module")
def chinese_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((one.text for one in general_questions(["zh"])), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_there_are_as_many_in_each_language_of_the_same_kinds_and_no_two_are_alike() -> None:
    kinds = [Counter(one.kind for one in general_questions([language])) for language in LANGUAGES]
    assert kinds[0] == kinds[1] and len(kinds[0]) >= 8 and sum(kinds[0].values()) >= 150
    keys = [question_key(one.text) for one in general_questions()]
    assert len(set(keys)) == len(keys) == 2 * sum(kinds[0].values())


def test_the_first_few_are_as_varied_as_all() -> None:
    english = general_questions(["en"])
    kinds = {one.kind for one in english}
    assert {one.kind for one in english[: len(kinds)]} == kinds
    assert [one.language for one in general_questions()[:4]] == ["en", "zh", "en", "zh"]


@pytest.mark.parametrize(
    ("question", "answer", "cut", "reason"),
    [
        (EN, "Red.", False, None),
        (EN, "1. Red\n2. Red wine", False, None),
        (EN, "100", False, None),
        (EN, "Red.", True, "cut"),
        (EN, "", False, "empty or unreadable"),
        (EN, "... !", False, "empty or unreadable"),
        (EN, "Red \ufffd", False, "empty or unreadable"),
        (EN, "the balcony of the balcony of the balcony of the house", False, "repeating itself"),
        (EN, "no!!!!!!!!!!!!!", False, "repeating itself"),
        (EN, "bye bye bye", False, None),
        (EN, "红色。", False, "in another language"),
        (TO_CHINESE, "你好。", False, None),
        (ZH, "红色。", False, None),
        (ZH, "红色（red）。", False, None),
        (ZH, "红色红色红色红色红色红色红色红色红色。", False, "repeating itself"),
        (ZH, "Red.", False, "in another language"),
        (ZH, "12", False, None),
    ],
    ids=str,
)
def test_which_answers_are_used(
    question: GeneralQuestion, answer: str, cut: bool, reason: str | None
) -> None:
    assert why_unusable(question, answer, cut) == reason


@pytest.mark.parametrize(
    ("wanted", "rows", "english", "chinese"),
    [
        ("auto", {"en": 5}, ("en",), ("en",)),
        ("auto", {"zh-Hans": 5}, ("en",), ("zh",)),
        ("auto", {"zh-Hant": 1, "en": 4}, ("en",), ("en", "zh")),
        ("auto", {"en>zh-Hans": 3}, ("en",), ("en", "zh")),
        ("auto", {"fr": 5, "unknown": 1}, ("en",), ("en",)),
        ("auto", {}, ("en",), ("en",)),
        ("zh", {"en": 5}, ("zh",), ("zh",)),
        ("en", {"zh": 5}, ("en",), ("en",)),
        ("both", {"en": 5}, ("en", "zh"), ("en", "zh")),
    ],
)
def test_the_languages_are_those_of_the_rows_that_the_model_writes(
    wanted: str,
    rows: dict[str, int],
    english: tuple[str, ...],
    chinese: tuple[str, ...],
    chatml_tokenizer: PreTrainedTokenizerFast,
    chinese_tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert languages_to_ask(wanted, rows, chatml_tokenizer) == english
    assert languages_to_ask(wanted, rows, chinese_tokenizer) == chinese
