"""The same questions answered before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..core.settings import Settings
from ..data.conversation import Conversation, Message
from ..data.templates.system_prompts import asked_with
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


EARLIER_SHOWN, EARLIER_CHARACTERS = 2, 60
"""How many of the turns before a question are shown, and how much of each."""


def answer_excerpt(text: str, characters: int) -> str:
    """Return a text on one line, its end left out where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1].rstrip()}…"


@dataclass(frozen=True)
class Question:
    """What a model is asked, and the answer its author gave, if any."""

    messages: tuple[Message, ...]
    reference: str = ""

    @property
    def text(self) -> str:
        """The last thing that was asked."""
        return self.messages[-1].content

    @property
    def earlier(self) -> list[Message]:
        """What was said before it, without a system prompt."""
        return [message for message in self.messages[:-1] if message.role != "system"]


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
    reference_cut: bool = False
    """Whether the data's answer is longer than an answer may be, so that its end is left out."""
    earlier_turns: int = 0
    """How many turns of the conversation stand before the question."""
    earlier: tuple[str, ...] = ()
    """The last of them, each shortened to a part of a line."""

    def as_fields(self) -> dict[str, Any]:
        """Return it as an event holds it."""
        return asdict(self)


def choose_questions(
    given: Sequence[str], held_out: Sequence[Conversation], count: int, system: str = ""
) -> list[Question]:
    """Return the questions given, with a system prompt before them where there is one, else the last turn of each of
    the first `count` held-out conversations."""
    if given:
        return [Question(tuple(asked_with(system, [Message("user", text)]))) for text in given]
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
    from .generate import Generated, generate_answers, never_stop, untold

    messages = [question.messages for question in questions]
    answers = generate_answers(
        model, tokenizer, template, messages, settings, should_stop or never_stop, on_progress or untold
    )
    return [Generated(own[0].text.strip(), own[0].cut) for own in answers]


def before_after(
    questions: Sequence[Question],
    before: Sequence[Generated],
    after: Sequence[Generated],
    tokenizer: PreTrainedTokenizerBase | None = None,
    most_tokens: int = 0,
) -> list[Answer]:
    """Put the two answers to each question side by side; raises ValueError where their numbers differ.

    With a tokenizer, the data's answer is cut after `most_tokens` tokens, as the model's are.
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
    """Return a text's first `most` tokens as text, and whether anything is left out."""
    from .stop_strings import UNFINISHED

    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) <= most:
        return text, False
    begun = str(tokenizer.decode(ids[:most], clean_up_tokenization_spaces=False))
    return begun.rstrip(UNFINISHED).rstrip(), True


def earlier_text(row: Mapping[str, Any], chinese: bool = False) -> str:
    """Return in a line what was said before a question, from an answer's fields; nothing where nothing was."""
    turns = row.get("earlier_turns")
    if not turns:
        return ""
    said = " → ".join(f"“{text}”" for text in row["earlier"])
    begun = "… → " if turns > len(row["earlier"]) else ""
    if chinese:
        return f"此前 {turns} 轮：{begun}{said}"
    return f"after {turns} turn{'' if turns == 1 else 's'}: {begun}{said}"
