"""General questions shipped with weitiao, in English and Chinese, which the model itself answers before training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from .checks._sketch import normal_codes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = Path(__file__).with_name("general_questions.yaml")
MOST_TOKENS_A_CHARACTER = 1.3
"""A tokenizer that needs more tokens for Chinese has hardly any Chinese in its vocabulary and falls back to bytes."""

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


@dataclass(frozen=True)
class GeneralQuestion:
    """One question."""

    text: str
    language: Language
    kind: str
    """The kind of task: facts, sums, lists, translating, ..."""

    @property
    def same_language(self) -> bool:
        """Whether the answer must be in the question's language; for a translation it need not be."""
        return self.kind != "translating"


@cache
def _read() -> Mapping[Language, Mapping[str, Sequence[str]]]:
    read: Mapping[Language, Mapping[str, Sequence[str]]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return read


def general_questions(languages: Iterable[Language] = LANGUAGES) -> list[GeneralQuestion]:
    """Return the questions in the order they are asked: languages alternate, and so do kinds within a language."""
    return list(_in_turn([list(_of_language(language)) for language in languages]))


def _of_language(language: Language) -> Iterator[GeneralQuestion]:
    kinds = [
        [GeneralQuestion(text, language, kind) for text in texts] for kind, texts in _read()[language].items()
    ]
    return _in_turn(kinds)


def _in_turn(lists: Sequence[Sequence[GeneralQuestion]]) -> Iterator[GeneralQuestion]:
    return (one for one in chain.from_iterable(zip_longest(*lists)) if one is not None)


def question_key(text: str) -> bytes:
    """Return a key that equal questions share; case, blanks, punctuation and character width do not count."""
    return normal_codes(text).tobytes()


REPEATED = re.compile(r"(.{6,}?)\1\1|(.)\2{9,}", re.DOTALL)
"""A passage of 6 or more characters three times in a row, or one character ten times in a row."""
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
LATIN = re.compile("[A-Za-z]")


def why_unusable(question: GeneralQuestion, answer: str, cut: bool) -> str | None:
    """Return why an answer is not trained (cut, empty, repeating itself, in another language); None if it is usable."""
    if cut:
        return "cut"
    if not any(character.isalnum() for character in answer) or "\ufffd" in answer:
        return "empty or unreadable"
    if REPEATED.search(answer):
        return "repeating itself"
    if question.same_language:
        own, other = (HAN, LATIN) if question.language == "zh" else (LATIN, HAN)
        if other.search(answer) and not own.search(answer):
            return "in another language"
    return None


def languages_to_ask(
    wanted: str, rows_by_language: Mapping[str, int], tokenizer: PreTrainedTokenizerBase
) -> tuple[Language, ...]:
    """Return the languages to ask in: those `wanted`, or for auto those of the rows that the tokenizer supports.

    `rows_by_language` counts rows by language code (`zh-Hans`; `en>zh` if question and answer differ).
    English is the fallback for rows in other languages, and for Chinese rows with a tokenizer not made for Chinese.
    """
    if wanted != "auto":
        return LANGUAGES if wanted == "both" else tuple(one for one in LANGUAGES if one == wanted)
    met = {part.partition("-")[0] for name in rows_by_language for part in name.split(">")}
    fitting = tuple(one for one in LANGUAGES if one in met and (one == "en" or writes_chinese(tokenizer)))
    return fitting or ("en",)


def writes_chinese(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer's vocabulary covers Chinese, judged by how few tokens it needs per character."""
    text = "".join(chain.from_iterable(_read()["zh"].values()))
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return len(ids) <= MOST_TOKENS_A_CHARACTER * len(text)
