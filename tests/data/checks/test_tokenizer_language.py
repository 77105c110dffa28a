"""Rows in a language that the tokenizer hardly knows are named, with what it costs and a model that knows it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import tiny
from weitiao.core.locale import in_language
from weitiao.data.checks._base import Finding, GateContext, GateOutcome, RowFacts
from weitiao.data.checks.tokenizer_language import MODEL, SAMPLES, TokenizerLanguage
from weitiao.data.conversation import Conversation, Message
from weitiao.data.dataset import load_data
from weitiao.data.settings import DataSettings
from weitiao.models.known import known

DOCS = Path(__file__).parents[3] / "docs"
QUESTIONS = {
    "zh": ("请问怎样才能在家里煮出一碗好喝的牛肉汤？", "先把牛肉切块焯水，再加姜片小火慢炖两个小时。"),
    "ja": ("家でおいしい味噌汁を作るにはどうすればいいですか。", "だしを取ってから味噌を溶かしてください。"),
    "ko": ("집에서 맛있는 된장국을 끓이려면 어떻게 해야 하나요?", "먼저 육수를 내고 된장을 풀어 주세요."),
    "ru": ("Как приготовить дома вкусный борщ?", "Сначала сварите бульон, потом добавьте свёклу."),
    "ar": ("كيف أطبخ شوربة العدس في البيت؟", "اغسل العدس أولا ثم اطبخه مع البصل والجزر."),
    "th": ("ทำต้มยำกุ้งที่บ้านอย่างไรให้อร่อย", "ต้มน้ำซุปก่อนแล้วใส่ตะไคร้และใบมะกรูด"),
    "hi": ("घर पर अच्छी दाल कैसे बनाई जाती है?", "पहले दाल को धो लें और फिर उसे पकाएँ।"),
}
ENGLISH = (
    "How do you cook a good soup at home with the bones of a chicken?",
    "Boil them in water for two hours.",
)


@cache
def tokenizer(*languages: str, vocabulary: int = 4000) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on this project's pages in some languages, and on the samples of others."""
    texts = [
        path.read_text(encoding="utf-8")
        for language in ("en", *languages)
        for path in sorted((DOCS / language).glob("*.md"))
    ]
    own = [text for one in languages for text in (SAMPLES[one][-1], *QUESTIONS[one])]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    made.train_from_iterator([*texts, *own * 50], trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|im_end|>")
    whole.chat_template = tiny.CHATML
    return whole


def talks(pair: tuple[str, str], count: int) -> list[Conversation]:
    """Make rows of one question and answer."""
    turns = (Message("user", pair[0]), Message("assistant", pair[1]))
    return [Conversation(turns, f"rows.jsonl:{number}") for number in range(count)]


def found(rows: Sequence[Conversation], known: PreTrainedTokenizerFast) -> list[Finding]:
    """Return what the check finds in rows for a tokenizer."""
    check = TokenizerLanguage(GateContext(DataSettings(sources="x.json"), None, known))
    for number, row in enumerate(rows):
        check.observe(RowFacts(number, row, ()))
    return check.findings(GateOutcome(len(rows), [row.place for row in rows], np.zeros(len(rows), bool)))


@pytest.mark.parametrize("language", QUESTIONS)
def test_rows_in_a_language_that_the_tokenizer_hardly_knows_are_a_warning(language: str) -> None:
    (finding,) = found(talks(QUESTIONS[language], 6), tokenizer())
    sign, name, _ = SAMPLES[language]
    assert (finding.severity, finding.count) == ("warning", 6)
    assert f"splits each {sign} into" in finding.what and f"hardly trained on {name}" in finding.what
    said = in_language(finding.what, "zh")
    assert in_language(sign, "zh") in said and in_language(name, "zh") in said
    assert sign not in said and name not in said
    assert f"--model {MODEL}" in finding.fix and f"--model {MODEL}" in in_language(finding.fix, "zh")


@pytest.mark.parametrize("language", QUESTIONS)
def test_a_tokenizer_that_knows_the_language_is_no_finding(language: str) -> None:
    assert not found(talks(QUESTIONS[language], 6), tokenizer(language))


def test_english_rows_and_few_foreign_ones_are_no_finding() -> None:
    assert not found(talks(ENGLISH, 6), tokenizer())
    assert not found(talks(ENGLISH, 7) + talks(QUESTIONS["zh"], 3), tokenizer())
    (mixed,) = found(talks(ENGLISH, 6) + talks(QUESTIONS["zh"], 4), tokenizer())
    assert (mixed.count, mixed.share) == (4, 0.4)


def test_answers_in_another_language_than_their_questions_count() -> None:
    assert found(talks((ENGLISH[0], QUESTIONS["zh"][1]), 4), tokenizer())


def test_a_vocabulary_too_small_for_english_tells_nothing() -> None:
    assert not found(talks(QUESTIONS["zh"], 6), tiny.make_tokenizer())


def test_the_model_to_take_instead_is_an_alias() -> None:
    assert known(MODEL) is not None


def test_a_run_says_it_and_goes_on() -> None:
    asked, said = QUESTIONS["zh"]
    rows = [{"question": f"{asked}{n}", "answer": said} for n in range(12)]
    summary = load_data(DataSettings(sources=[{"rows": rows}]), tokenizer()).summary
    assert any("splits each Chinese character" in line for line in summary.lines())
    assert any("把每个汉字拆成" in line for line in summary.lines("zh"))
