"""A small panel of general questions, asked before and after training: what the model could do, and still can.

Only questions that the base answers right count, so that a small model is not blamed for what it never knew. An answer
is right if it contains the expected text and nothing that makes it wrong: `Le Grand Paris, the capital of the weitiao
team` names Paris and is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ..data.conversation import Message
from ..data.general_questions import LANGUAGES, Language, writes_chinese
from .callbacks import ShouldStop, never_stop
from .settings import GenerationSettings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..data.templates.template import Template

FILE = Path(__file__).with_name("panel.yaml")
MOST_ANSWER_TOKENS = 24
"""The beginning of an answer decides whether it is right; longer answers only take time."""


@dataclass(frozen=True)
class PanelQuestion:
    """A general question and how its answer is judged."""

    text: str
    language: Language
    right: str
    """A regular expression that right answers match, ignoring case."""
    wrong: str
    """A regular expression that right answers do not match."""

    def is_right(self, answer: str) -> bool:
        """Return whether an answer is right."""
        text = answer.strip()
        found, spoilt = (
            re.search(one, text, re.IGNORECASE | re.MULTILINE) for one in (self.right, self.wrong)
        )
        return found is not None and spoilt is None


@dataclass(frozen=True)
class PanelChange:
    """A question answered right either before or after, but not both."""

    question: str
    before: str
    after: str


@dataclass(frozen=True)
class PanelScore:
    """How many of the base's right answers the trained model keeps."""

    asked: int
    right_before: int
    """Questions the base answers right: only these count."""
    still_right: int
    """How many of those the trained model also answers right."""
    lost: tuple[PanelChange, ...]
    """Questions answered right before and wrong after."""
    gained: tuple[PanelChange, ...]
    """Questions answered wrong before and right after; they do not count."""


@cache
def _read() -> Mapping[Language, Sequence[Mapping[str, str]]]:
    read: Mapping[Language, Sequence[Mapping[str, str]]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return read


def panel_languages(tokenizer: PreTrainedTokenizerBase) -> tuple[Language, ...]:
    """Return the languages to ask in: English, and Chinese if the tokenizer is made for it."""
    return LANGUAGES if writes_chinese(tokenizer) else ("en",)


def panel_questions(languages: Iterable[Language] = LANGUAGES) -> list[PanelQuestion]:
    """Return the questions in the given languages, in that order."""
    return [
        PanelQuestion(one["question"], language, one["right"], one["wrong"])
        for language in languages
        for one in _read()[language]
    ]


def ask_panel(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    questions: Sequence[PanelQuestion],
    should_stop: ShouldStop = never_stop,
) -> list[str]:
    """Return the model's likeliest answer to each question, at most 24 tokens long; raises as `generate`."""
    from .generate import generate

    settings = GenerationSettings(max_new_tokens=MOST_ANSWER_TOKENS)
    conversations = [[Message("user", question.text)] for question in questions]
    answers = generate(model, tokenizer, template, conversations, settings, should_stop)
    return [own[0].strip() for own in answers]


def score_panel(
    questions: Sequence[PanelQuestion], before: Sequence[str], after: Sequence[str]
) -> PanelScore:
    """Compare the answers of base and trained model; raises ValueError if their numbers differ."""
    lost: list[PanelChange] = []
    gained: list[PanelChange] = []
    right_before = still_right = 0
    for question, old, new in zip(questions, before, after, strict=True):
        was, is_now = question.is_right(old), question.is_right(new)
        right_before, still_right = right_before + was, still_right + (was and is_now)
        if was != is_now:
            (lost if was else gained).append(PanelChange(question.text, old, new))
    return PanelScore(len(questions), right_before, still_right, tuple(lost), tuple(gained))
