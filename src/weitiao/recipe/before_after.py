"""The same looks before and after training: held-out loss, and answers to the same questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from ..core.errors import NotFiniteError, Problem
from ..core.events import Event, EventLog
from ..data.dataset import Prepared
from ..engine.forward import Forward
from ..engine.memory import default_pack_tokens
from ..evaluation.answers import Answer, Question, answer_questions, before_after, choose_questions
from ..evaluation.held_out import HeldOut, measure_held_out
from ..methods._base import Attached
from .recipe import Recipe


@dataclass
class Look:
    """What one look at a model gave."""

    held_out: HeldOut | None
    """None where nothing is held out."""
    answers: list[str] | None
    """None until the questions are asked."""


@dataclass
class Comparison:
    """Looks at the model before and after, with the same examples, questions and settings."""

    recipe: Recipe
    tokenizer: PreTrainedTokenizerBase
    data: Prepared
    questions: list[Question] = field(init=False)
    before: Look | None = None
    after: Look | None = None

    def __post_init__(self) -> None:
        """Choose the questions."""
        evaluate = self.recipe.evaluate
        self.questions = choose_questions(
            evaluate.questions, self.data.held_out_conversations, evaluate.question_count
        )

    def look_before(self, forward: Forward, earlier: Sequence[Event], log: EventLog, ask: bool) -> None:
        """Measure the untrained model, and ask it where that cannot wait; or take what an interrupted process saw.

        An adapter can be switched off at the end, so its run need not begin with minutes of writing answers.
        """
        seen = [event for event in earlier if event["event"] == "before"]
        if seen and seen[-1]["questions"] == [question.text for question in self.questions]:
            held_out, answers = seen[-1]["held_out"], seen[-1]["answers"]
            self.before = Look(HeldOut(held_out["loss"]) if held_out else None, answers and list(answers))
            return
        log.emit("stage", text=f"measuring {'and asking ' if ask else ''}the model before training")
        self.before = Look(self._measure(forward), self._ask(forward) if ask else None)
        held_out = self.before.held_out
        if held_out is not None and not math.isfinite(held_out.loss):
            what = "the model gives no finite loss before any training: its weights or its precision are at fault"
            problem = Problem(
                what,
                f"held-out loss {held_out.loss}",
                "a finite loss",
                "model.dtype=fp32, or the model downloaded anew",
            )
            raise NotFiniteError(problem)
        log.emit(
            "before",
            held_out=self.before.held_out.as_fields() if self.before.held_out else None,
            questions=[question.text for question in self.questions],
            answers=self.before.answers,
        )

    def look_after(self, forward: Forward, attached: Attached, log: EventLog) -> None:
        """Look at the trained model, and report both answers side by side."""
        log.emit("stage", text="measuring and asking the model after training")
        self.after = Look(self._measure(forward), self._ask(forward))
        if self.before is not None and self.before.answers is None:
            with attached.disabled():
                self.before.answers = self._ask(forward)
        if self.questions:
            log.emit("answers", rows=[answer.as_fields() for answer in self.answers])

    @property
    def answers(self) -> list[Answer]:
        """The questions with both answers; raises ValueError before both looks were taken."""
        before, after = (look.answers if look else None for look in (self.before, self.after))
        if before is None or after is None:
            raise ValueError("both looks must be taken first")
        return before_after(self.questions, before, after)

    def _measure(self, forward: Forward) -> HeldOut | None:
        if not self.data.held_out:
            return None
        pack_tokens = self.recipe.train.pack_tokens or default_pack_tokens(forward.device)
        with forward.attention():
            return measure_held_out(forward, self.recipe.objective, self.data.held_out, pack_tokens)

    def _ask(self, forward: Forward) -> list[str]:
        settings = self.recipe.evaluate.generation
        with forward.precision.autocast(forward.device):
            return answer_questions(
                forward.model, self.tokenizer, self.data.template, self.questions, settings
            )
