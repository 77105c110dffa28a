"""The same questions answered before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from ..core.settings import Settings
from ..data.conversation import Conversation, Message
from .settings import GenerationSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..data.template import Template


class EvaluateSettings(Settings):
    """What is asked before and after training."""

    questions: list[str] = Field(default=[])
    """The questions to ask; left out, the first held-out rows are asked."""
    question_count: int = Field(default=4, ge=0)
    """How many held-out rows are asked where no questions are given; 0 asks none."""
    generation: GenerationSettings = GenerationSettings(max_new_tokens=96)
    """How the answers are generated."""


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

    def as_fields(self) -> dict[str, str]:
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
) -> list[str]:
    """Return the (first) answer to each question, stripped of blanks around it; raises as `generate`."""
    from .generate import generate, never

    messages = [question.messages for question in questions]
    answers = generate(model, tokenizer, template, messages, settings, should_stop or never)
    return [own[0].strip() for own in answers]


def before_after(questions: Sequence[Question], before: Sequence[str], after: Sequence[str]) -> list[Answer]:
    """Put the two answers to each question side by side; raises ValueError where their numbers differ."""
    return [
        Answer(question.text, question.reference, old, new)
        for question, old, new in zip(questions, before, after, strict=True)
    ]
