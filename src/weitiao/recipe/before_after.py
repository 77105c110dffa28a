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
from .recipe import Recipe


@dataclass
class Look:
    """What one look at a model gave."""

    held_out: HeldOut | None
    """None where nothing is held out."""
    answers: list[str]


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

    def look_before(self, forward: Forward, earlier: Sequence[Event], log: EventLog) -> None:
        """Look at the untrained model, or take what an interrupted process of this run saw."""
        seen = [event for event in earlier if event["event"] == "before"]
        if seen and seen[-1]["questions"] == [question.text for question in self.questions]:
            held_out = seen[-1]["held_out"]
            self.before = Look(HeldOut(held_out["loss"]) if held_out else None, list(seen[-1]["answers"]))
            return
        log.emit("stage", text="measuring and asking the model before training")
        self.before = self._look(forward)
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

    def look_after(self, forward: Forward, log: EventLog) -> None:
        """Look at the trained model, and report both answers side by side."""
        log.emit("stage", text="measuring and asking the model after training")
        self.after = self._look(forward)
        if self.questions:
            log.emit("answers", rows=[answer.as_fields() for answer in self.answers])

    @property
    def answers(self) -> list[Answer]:
        """The questions with both answers; raises ValueError before both looks were taken."""
        if self.before is None or self.after is None:
            raise ValueError("both looks must be taken first")
        return before_after(self.questions, self.before.answers, self.after.answers)

    def _look(self, forward: Forward) -> Look:
        settings, held_out = self.recipe.evaluate.generation, None
        if self.data.held_out:
            pack_tokens = self.recipe.train.pack_tokens or default_pack_tokens(forward.device)
            with forward.attention():
                held_out = measure_held_out(forward, self.recipe.objective, self.data.held_out, pack_tokens)
        with forward.precision.autocast(forward.device):
            answers = answer_questions(
                forward.model, self.tokenizer, self.data.template, self.questions, settings
            )
        return Look(held_out, answers)
