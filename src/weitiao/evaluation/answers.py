"""The same questions answered before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..core.settings import Settings
from ..data.conversation import Conversation, Message
from .settings import GenerationSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..data.templates.template import Template
    from .generate import Generated, OnProgress


class EvaluateSettings(Settings):
    """What is asked before and after training."""

    questions: list[str] = Field(default=[])
    """The questions to ask; left out, the first held-out rows are asked."""
    question_count: int = Field(default=4, ge=0)
    """How many held-out rows are asked where no questions are given; 0 asks none."""
    panel: bool = True
    """Whether a panel of 16 general questions is asked as well, where anything is: what the base answers right should
    stay right."""
    generation: GenerationSettings = GenerationSettings(max_new_tokens=96)
    """How the answers are generated."""


CUT_MARK = "[…]"
"""Stands behind an answer that ended only because it may not be longer."""


def marked(text: str, cut: bool) -> str:
    """Return an answer with a mark behind it where it was cut."""
    return f"{text} {CUT_MARK}" if cut else text


@dataclass(frozen=True)
class Question:
    """What a model is asked, and the answer its author gave, if any."""

    messages: tuple[Message, ...]
    reference: str = ""

    @property
    def text(self) -> str:
        """The last thing that was asked."""
        return self.messages[-1].content


@dataclass(frozen=True)
class Answer:
    """A question with the data's answer, the base's and the trained model's."""

    question: str
    reference: str
    before: str
    after: str
    before_cut: bool = False
    """Whether the base's answer ended only because it may not be longer."""
    after_cut: bool = False
    """The same of the trained model's."""

    def as_fields(self) -> dict[str, Any]:
        """Return it as an event holds it."""
        return asdict(self)


def choose_questions(given: Sequence[str], held_out: Sequence[Conversation], count: int) -> list[Question]:
    """Return the questions given, else the last turn of each of the first `count` held-out conversations."""
    if given:
        return [Question((Message("user", text),)) for text in given]
    return [Question(c.messages[:-1], c.messages[-1].content) for c in held_out[:count]]


def answer_questions(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    questions: Sequence[Question],
    settings: GenerationSettings,
    should_stop: Callable[[], bool] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Generated]:
    """Return the (first) answer to each question, stripped of blanks around it; raises as `generate_answers`."""
    from .generate import Generated, generate_answers, never, untold

    messages = [question.messages for question in questions]
    answers = generate_answers(
        model, tokenizer, template, messages, settings, should_stop or never, on_progress or untold
    )
    return [Generated(own[0].text.strip(), own[0].cut) for own in answers]


def before_after(
    questions: Sequence[Question], before: Sequence[Generated], after: Sequence[Generated]
) -> list[Answer]:
    """Put the two answers to each question side by side; raises ValueError where their numbers differ."""
    return [
        Answer(question.text, question.reference, old.text, new.text, old.cut, new.cut)
        for question, old, new in zip(questions, before, after, strict=True)
    ]
