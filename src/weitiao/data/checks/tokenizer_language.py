"""Rows in a language that the model's tokenizer hardly knows: then the model was hardly trained on it either."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from ._base import Finding, GateContext, GateOutcome, RowFacts
from ._kinds import Kind, KindsCheck, gravest_first
from .languages import language_of

SAMPLES = {
    "zh": ("Chinese character", "Chinese", "今天天气很好我们一起去公园散步看见许多孩子"),
    "ja": ("Japanese character", "Japanese", "今日は天気がいいので友達と公園まで歩きました"),
    "ko": ("Korean character", "Korean", "오늘은날씨가좋아서친구와공원에서산책을했습니다"),
    "ru": ("Russian letter", "Russian", "Сегодня хорошая погода и мы гуляли в парке с детьми"),
    "ar": ("Arabic letter", "Arabic", "الطقس جميل اليوم وذهبنا معا إلى الحديقة مع الأطفال"),
    "th": ("Thai letter", "Thai", "วันนี้อากาศดีเราไปเดินเล่นที่สวนสาธารณะกับเพื่อน"),
    "hi": ("Hindi letter", "Hindi", "आज मौसम अच्छा है और हम बच्चों के साथ बगीचे में घूमने गए"),
}  # fmt: skip
"""By language: the name of its characters, its own name, and a plain sentence in it."""
ENGLISH = (
    "The weather is nice today and we went for a walk in the park with the children and saw many flowers"
)
MOST_TOKENS_A_BYTE = 0.5
"""A tokenizer that was trained on a language needs fewer tokens. The limit is 1.5 tokens per Chinese character (3
bytes) or 1 per Cyrillic letter (2 bytes). Per Chinese character, the English tokenizers of SmolLM2 and GPT-2 need 2.0
tokens, cl100k (GPT-4) 1.2, o200k 0.8."""
MOST_ENGLISH_TOKENS = 0.4
"""Tokens per character of English. Above this, the vocabulary is too small to say which languages it was made for."""
LEAST_SHARE = 1 / 3
"""A language is reported only above this share of rows."""
MODEL = "qwen2.5-0.5b-instruct"


class TokenizerLanguage(KindsCheck):
    """Finds rows in a language whose characters the tokenizer splits into several tokens."""

    needs_tokens: ClassVar[bool] = True

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self._rows = 0

    def observe(self, row: RowFacts) -> None:
        """Count the row under the languages of its question and answer that the tokenizer hardly knows."""
        for text in (row.text.asked, row.text.said):
            language = language_of(text).partition("-")[0]
            if language in self._foreign:
                self.hit(language, row)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return each such language that many rows are in, with the tokens per character."""
        return gravest_first(
            replace(self._kind(language).finding(self.name, hits, outcome.rows), places=())
            for language, hits in sorted(self.hits.items())
            if len(hits) > LEAST_SHARE * outcome.rows
        )

    @cached_property
    def _foreign(self) -> dict[str, float]:
        """Languages that the tokenizer hardly knows -> tokens per character."""
        if self._tokens_a_character(ENGLISH) > MOST_ENGLISH_TOKENS:
            return {}
        costs = {language: self._tokens_a_character(sample) for language, (*_, sample) in SAMPLES.items()}
        return {
            language: cost
            for language, cost in costs.items()
            if cost >= MOST_TOKENS_A_BYTE * _bytes_a_character(SAMPLES[language][-1])
        }

    def _tokens_a_character(self, text: str) -> float:
        if self.context.tokenizer is None:
            return 0.0
        return len(self.context.tokenizer.encode(text, add_special_tokens=False)) / len(text)

    def _kind(self, language: str) -> Kind:
        sign, name, _ = SAMPLES[language]
        cost = f"{self._foreign[language]:.1f}"
        return Kind(
            "warning",
            f"this model's tokenizer splits each {sign} into {cost} tokens: the model was hardly trained on {name}, so "
            "rows become longer, and the model learns little from them and answers badly",
            f"use a model that was trained on {name}, such as --model {MODEL}; `weitiao models` lists others",
        )


def _bytes_a_character(text: str) -> float:
    return len(text.encode()) / len(text)
