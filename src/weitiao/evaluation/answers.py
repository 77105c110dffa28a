"""Answers to the same questions before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..core.settings import Settings
from ..data.conversation import Conversation, Message
from ..data.templates.system_prompts import asked_with
from .callbacks import OnProgress, ShouldStop, ignore_progress, never_stop
from .settings import GenerationSettings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..data.templates.template import Template
    from .generate import Generated


class EvaluateSettings(Settings):
    """What is asked before and after training."""

    questions: list[str] = Field(default=[])
    """The questions to ask; if left out, the first held-out rows are asked."""
    question_count: int = Field(default=4, ge=0)
    """How many held-out rows are asked if no questions are given; 0 asks none."""
    panel: bool = True
    """Whether 16 general questions are asked as well, if anything is asked: what the base answers right should stay
    right."""
    generation: GenerationSettings = GenerationSettings(max_new_tokens=96)
    """How the answers are generated."""


CUT_MARK = "[…]"
"""Appended to an answer that was cut off at the length limit."""


def marked(text: str, cut: bool) -> str:
    """Return an answer, with a mark appended if it was cut off."""
    return f"{text} {CUT_MARK}" if cut else text


EARLIER_SHOWN, EARLIER_CHARACTERS = 2, 60
"""Turns shown before a question, and characters shown of each."""


def answer_excerpt(text: str, characters: int) -> str:
    """Return a text on one line, shortened to `characters`."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1].rstrip()}…"


@dataclass(frozen=True)
class Question:
    """What a model is asked, and the reference answer from the data, if any."""

    messages: tuple[Message, ...]
    reference: str = ""

    @property
    def text(self) -> str:
        """The last message."""
        return self.messages[-1].content

    @property
    def earlier(self) -> list[Message]:
        """The messages before it, without the system prompt."""
        return [message for message in self.messages[:-1] if message.role != "system"]


@dataclass(frozen=True)
class Answer:
    """A question with its reference answer, the base's answer and the trained model's."""

    question: str
    reference: str
    before: str
    after: str
    before_cut: bool = False
    """Whether the base's answer was cut off at the length limit."""
    after_cut: bool = False
    """The same for the trained model's."""
    reference_cut: bool = False
    """Whether the reference is longer than the length limit, and therefore shortened."""
    earlier_turns: int = 0
    """Turns of the conversation before the question."""
    earlier: tuple[str, ...] = ()
    """The last of them, each shortened to part of a line."""

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the event that reports it."""
        return asdict(self)


def choose_questions(
    given: Sequence[str], held_out: Sequence[Conversation], count: int, system: str = ""
) -> list[Question]:
    """Return the given questions, after the system prompt if there is one; else the last turn of each of the first
    `count` held-out conversations."""
    if given:
        return [Question(tuple(asked_with(system, [Message("user", text)]))) for text in given]
    return [Question(c.messages[:-1], c.messages[-1].content) for c in held_out[:count]]


def answer_questions(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    questions: Sequence[Question],
    settings: GenerationSettings,
    should_stop: ShouldStop = never_stop,
    on_progress: OnProgress = ignore_progress,
) -> list[Generated]:
    """Return the first answer to each question, stripped; raises the errors of `generate_answers`."""
    from .generate import Generated, generate_answers

    messages = [question.messages for question in questions]
    answers = generate_answers(model, tokenizer, template, messages, settings, should_stop, on_progress)
    return [Generated(own[0].text.strip(), own[0].cut) for own in answers]


def before_after(
    questions: Sequence[Question],
    before: Sequence[Generated],
    after: Sequence[Generated],
    tokenizer: PreTrainedTokenizerBase | None = None,
    most_tokens: int = 0,
) -> list[Answer]:
    """Pair the two answers to each question; raises ValueError if their numbers differ.

    With a tokenizer, the reference answer is cut off after `most_tokens` tokens, as the model's answers are.
    """
    answers = []
    for question, old, new in zip(questions, before, after, strict=True):
        reference, cut = question.reference, False
        if tokenizer is not None:
            reference, cut = first_tokens(reference, tokenizer, most_tokens)
        said = tuple(
            answer_excerpt(turn.content, EARLIER_CHARACTERS) for turn in question.earlier[-EARLIER_SHOWN:]
        )
        turns = len(question.earlier)
        answers.append(
            Answer(question.text, reference, old.text, new.text, old.cut, new.cut, cut, turns, said)
        )
    return answers


def first_tokens(text: str, tokenizer: PreTrainedTokenizerBase, most: int) -> tuple[str, bool]:
    """Return a text's first `most` tokens as text, and whether it was shortened."""
    from .stop_strings import UNFINISHED

    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) <= most:
        return text, False
    begun = str(tokenizer.decode(ids[:most], clean_up_tokenization_spaces=False))
    return begun.rstrip(UNFINISHED).rstrip(), True


def earlier_text(row: Mapping[str, Any]) -> str:
    """Return the turns before a question in one line, from an answer's fields; empty if there are none."""
    turns = row.get("earlier_turns")
    if not turns:
        return ""
    said = " → ".join(f"“{text}”" for text in row["earlier"])
    said = f"… → {said}" if turns > len(row["earlier"]) else said
    return f"after {turns} turn{'' if turns == 1 else 's'}: {said}"
