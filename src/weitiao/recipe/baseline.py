"""The same measurements before and after training: held-out loss, and answers to the same questions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..core.errors import MALFORMED, NotFiniteError, Problem, WeitiaoError
from ..core.events import Event, EventLog, Progress
from ..data.dataset import Prepared
from ..data.formats._base import RowError
from ..data.templates.system_prompts import SystemPrompts
from ..data.templates.template_choice import OWN_SYSTEM
from ..engine.forward import Forward
from ..engine.loop import HeldOutLoss
from ..engine.memory.budget import default_pack_tokens
from ..engine.memory.oom import MAY_SAY_SO, is_out_of_memory
from ..engine.two_passes import Reference
from ..evaluation.answer_scores import score_answers
from ..evaluation.answers import Answer, Question, answer_questions, before_after, choose_questions
from ..evaluation.callbacks import ShouldStop, never_stop
from ..evaluation.generate import Generated
from ..evaluation.held_out import HeldOut, measure_held_out
from ..evaluation.panel import (
    PanelQuestion,
    PanelScore,
    ask_panel,
    panel_languages,
    panel_questions,
    score_panel,
)
from ..methods._base import Attached
from ..models.anatomy import base_of, width_of
from .recipe import Recipe
from .reference import reference_for, reference_of_start, restores_start

FIRST_ROWS = 16
"""Rows searched for a short one on which to check that the loss is finite."""


@dataclass
class Look:
    """The results of one look: held-out loss and answers of a model at one moment."""

    held_out: HeldOut | None
    """None if nothing is held out."""
    answers: list[Generated] | None
    """None until the questions are asked."""
    panel: list[str] | None = None
    """Answers to the panel of general questions; None until it is asked."""


@dataclass
class Comparison:
    """Looks at the model before and after training, with the same examples, questions and settings."""

    recipe: Recipe
    tokenizer: PreTrainedTokenizerBase
    data: Prepared
    questions: list[Question] = field(init=False)
    panel: list[PanelQuestion] = field(init=False, default_factory=list)
    """The general questions; empty if nothing else is asked."""
    before: Look | None = None
    after: Look | None = None
    failures: list[str] = field(init=False, default_factory=list)
    """What could not be measured or asked, and why."""
    _waits: bool = field(init=False, default=False)
    """Whether the look before training is postponed."""
    _measured: dict[float, HeldOut] = field(init=False, default_factory=dict)
    """The held-out results during training, by their loss."""

    def __post_init__(self) -> None:
        """Choose the questions."""
        evaluate = self.recipe.evaluate
        self.questions = choose_questions(
            evaluate.questions, self.data.held_out_conversations, evaluate.question_count, self.system
        )
        if evaluate.panel and self.questions:
            self.panel = panel_questions(panel_languages(self.tokenizer))

    @property
    def system(self) -> str:
        """The system prompt that all training rows begin with; empty if there is none."""
        systems = systems_of(self.recipe, self.data)
        return systems.common if systems else ""

    def prepare_baseline(
        self, forward: Forward, attached: Attached, earlier: Sequence[Event], log: EventLog
    ) -> None:
        """Measure and ask the untrained model, or postpone it if the method can be disabled at any time.

        A postponed run need not begin with minutes of measuring and answering: the base is measured at the first
        held-out evaluation, and asked at the end. What an interrupted process measured is read from its events. Raises
        NotFiniteError for a model whose loss is not finite.
        """
        self._waits = restores_start(self.recipe, attached)
        self._take_earlier(earlier)
        if self.before is None and not self._waits:
            log.emit("stage", text="measuring and asking the model before training")
            self.measure_baseline(forward, log)
        elif self.before is None:
            with attached.disabled(), forward.attention():
                shortest = min(self.data.train[:FIRST_ROWS], key=lambda example: example.longest)
                reference = reference_of_start(self.recipe, forward)
                found = measure_held_out(forward, self.recipe.objective, [shortest], 1, reference=reference)
                require_finite_loss(found)

    def remember(self, measured: HeldOut) -> None:
        """Keep the result of an evaluation during training, so that the final model need not be measured again."""
        self._measured[measured.loss] = measured

    def base_first(
        self, look: HeldOutLoss, forward: Forward, attached: Attached, log: EventLog
    ) -> HeldOutLoss:
        """Return a held-out evaluation that measures the base first if that was postponed."""

        def looked(should_stop: ShouldStop) -> Mapping[str, float] | None:
            if self.before is None:
                with attached.disabled():
                    self.measure_baseline(forward, log, should_stop)
            return None if self.before is None else look(should_stop)

        def looked_or_noted(should_stop: ShouldStop) -> Mapping[str, float] | None:
            try:
                return looked(should_stop)
            except MAY_SAY_SO as error:
                if not is_out_of_memory(error):
                    raise
                log.emit("note", text="not enough memory to evaluate the held-out loss; training continues")
                return {"loss": math.nan}

        return looked_or_noted

    def _take_earlier(self, earlier: Sequence[Event]) -> None:
        seen = [event for event in earlier if event["event"] == "before"]
        if seen and self._asked_the_same(seen[-1]):
            held_out = seen[-1]["held_out"]
            measured = HeldOut.from_fields(held_out) if held_out else None
            self.before = Look(measured, _answers_of(seen[-1]), seen[-1].get("panel"))

    def _asked_the_same(self, event: Event) -> bool:
        """Return whether an earlier look asked what is asked now, with the settings that decide the answers."""
        same = bool(event["questions"] == [question.text for question in self.questions])
        if event["answers"] is None:  # nothing was asked yet
            return same
        panel = (event.get("panel") is not None) == bool(self.panel)
        return same and panel and event.get("generation") == self._generation

    @property
    def _generation(self) -> dict[str, Any]:
        return self.recipe.evaluate.generation.model_dump(mode="json")

    def measure_baseline(self, forward: Forward, log: EventLog, should_stop: ShouldStop = never_stop) -> None:
        """Measure the untrained model, and ask it unless that is postponed; `before` stays None if stopped."""
        reference = reference_of_start(self.recipe, forward)
        held_out = self._measure(forward, log, reference, "held-out loss before training", should_stop)
        if held_out is None and self.data.held_out:
            return
        require_finite_loss(held_out)
        self.before = Look(held_out, None)
        if not self._waits:
            self._ask(self.before, forward, log)
        log.emit(
            "before",
            held_out={**held_out.as_fields(), "rows": held_out.rows} if held_out else None,
            questions=[question.text for question in self.questions],
            generation=self._generation,
            panel=self.before.panel,
            **_fields_of(self.before.answers),
        )

    def look_after(
        self, forward: Forward, attached: Attached, log: EventLog, loss: float | None = None
    ) -> None:
        """Look at the trained model and report both answers side by side; as the result is saved, failures are notes.

        `loss` is its held-out loss, if measured during training; what an interrupted process evaluated is measured
        again, because its rows are unknown.
        """
        known = None if loss is None else self._measured.get(loss)
        log.emit(
            "stage", text="asking the trained model" if known else "measuring and asking the trained model"
        )
        with self._noting("the held-out loss after training", log):
            reference = reference_for(self.recipe, attached, forward)
            self.after = Look(known or self._measure(forward, log, reference), None)
        self.after = self.after or Look(None, None)
        self._ask(self.after, forward, log)
        if self._waits:
            with self._noting("the held-out loss before training", log), attached.disabled():
                if self.before is None:
                    self.measure_baseline(forward, log)
            with attached.disabled():
                if self.before is not None and self.before.answers is None:
                    log.emit("stage", text="asking the model before training")
                    self._ask(self.before, forward, log)
        if self.answers:
            rows = [answer.as_fields() for answer in self.answers]
            log.emit("answers", rows=rows, scores=[one.as_fields() for one in score_answers(self.answers)])

    @property
    def panel_score(self) -> PanelScore | None:
        """How many general questions are still answered right; None until the panel was asked twice."""
        before, after = (look.panel if look else None for look in (self.before, self.after))
        return None if before is None or after is None else score_panel(self.panel, before, after)

    @property
    def answers(self) -> list[Answer]:
        """The questions with both answers; empty until both were asked, or if asking failed."""
        before, after = (look.answers if look else None for look in (self.before, self.after))
        if before is None or after is None:
            return []
        most = self.recipe.evaluate.generation.max_new_tokens
        return before_after(self.questions, before, after, self.tokenizer, most)

    def _measure(
        self,
        forward: Forward,
        log: EventLog,
        reference: Reference | None,
        what: str = "held-out loss after training",
        should_stop: ShouldStop = never_stop,
    ) -> HeldOut | None:
        """Return the held-out loss, None if stopped or if nothing is held out; `what` is shown with the progress."""
        if not self.data.held_out:
            return None
        pack_tokens = self.recipe.train.pack_tokens or default_pack_tokens(
            forward.device, width_of(base_of(forward.model))
        )
        with forward.attention():
            return measure_held_out(
                forward,
                self.recipe.objective,
                self.data.held_out,
                pack_tokens,
                should_stop,
                Progress(log.emit, what),
                reference,
            )

    def _ask(self, look: Look, forward: Forward, log: EventLog) -> None:
        """Ask the questions and the panel; if asking fails, that is noted and the answers stay None."""
        model, tokenizer, template = forward.model, self.tokenizer, self.data.template
        settings, autocast = self.recipe.evaluate.generation, forward.precision.autocast(forward.device)
        with self._noting("answering the questions", log), autocast:
            progress = Progress(log.emit, "answers")
            look.answers = answer_questions(
                model, tokenizer, template, self.questions, settings, on_progress=progress
            )
        if self.panel:
            with self._noting("answering the general questions", log), autocast:
                look.panel = ask_panel(model, tokenizer, template, self.panel)

    @contextmanager
    def _noting(self, what: str, log: EventLog) -> Iterator[None]:
        """Turn failures of memory, model or template into notes: they must not cost the trained result."""
        try:
            yield
        except (WeitiaoError, RowError, MemoryError, *MALFORMED) as error:
            said = str(error).partition("\n")[0] or "not enough memory"
            self.failures.append(f"{what}: {type(error).__name__}: {said}")
            log.emit("note", text=f"{self.failures[-1]} (the run continues without it)")


def systems_of(recipe: Recipe, data: Prepared) -> SystemPrompts | None:
    """Return the system prompts of the training rows; None if the run file sets one itself."""
    fields = data.gate.facts.get("system_prompt", {}).get("of_rows") if data.gate else None
    return SystemPrompts.of_fields(fields) if fields and recipe.data.system == OWN_SYSTEM else None


def _fields_of(answers: Sequence[Generated] | None) -> dict[str, Any]:
    """Return answers as fields of an event: the texts, and whether each was cut off."""
    if answers is None:
        return {"answers": None}
    return {"answers": [answer.text for answer in answers], "cut": [answer.cut for answer in answers]}


def _answers_of(event: Event) -> list[Generated] | None:
    """Return what `_fields_of` wrote; events of older versions do not say which answers were cut off."""
    texts = event["answers"]
    if texts is None:
        return None
    return [
        Generated(text, cut)
        for text, cut in zip(texts, event.get("cut") or [False] * len(texts), strict=True)
    ]


def require_finite_loss(held_out: HeldOut | None) -> None:
    """Raise NotFiniteError if the untrained model's loss is not finite."""
    if held_out is not None and not math.isfinite(held_out.loss):
        what = "the model gives no finite loss before any training: its weights or its precision are at fault"
        remedy = "model.dtype=fp32, or the model downloaded anew"
        raise NotFiniteError(Problem(what, f"loss {held_out.loss}", "a finite loss", remedy))
