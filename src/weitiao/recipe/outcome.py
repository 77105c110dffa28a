"""Writes the results of a run: adapter or model with its card, the report, and the last event."""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from ..core.errors import Interrupted, Problem, Terminated
from ..core.events import Event, EventLog, read_events, steps_that_count
from ..core.files import saving, staged_folder, write_json
from ..core.run_folder import RunFolder
from ..core.version import VERSION
from ..data.templates.system_prompts import with_trained_system
from ..engine.loop import TrainingState
from ..engine.runtime.monitor import peak_memory_bytes
from ..engine.runtime.signals import signals_wait
from ..evaluation.card import write_card
from ..evaluation.chosen import Chosen
from ..evaluation.curve import held_out_points
from ..evaluation.held_out import HeldOut
from ..evaluation.report import write_report
from ..evaluation.run_facts import ReportFacts, Scores
from ..evaluation.trained import TOKENIZER_FOLDER
from ..evaluation.verdict import Verdict, judge
from ..methods._base import Attached, count_parameters
from ..methods._peft.register import needs_registering
from ..models.adapter_files import CONFIG
from ..models.anatomy import base_of, width_of
from ..models.fingerprint import Fingerprint, remember_place, write_fingerprint
from ..models.load import hub_id_of
from ..models.resolve import public_name
from ..models.stop_tokens import set_stops
from .advice import training_seen
from .baseline import Comparison
from .recipe import Recipe
from .run import Run

PACKAGES = ("torch", "transformers", "peft")


@dataclass
class Outcome:
    """Saves and reports a run that has made its last step."""

    recipe: Recipe
    folder: RunFolder
    attached: Attached
    comparison: Comparison
    progress: TrainingState
    base: Fingerprint
    log: EventLog
    chosen: Chosen
    """The run's final settings."""
    began: float
    """Start of the command in time.monotonic() seconds; for a resumed run, earlier by the time of previous steps."""
    result_step: int
    """The step whose weights are the result."""
    left_out: Sequence[str] = ()
    """Parts of the model that the method leaves unchanged."""

    @property
    def result(self) -> Path:
        """The folder of the trained adapter or model."""
        return self.folder.model if self.attached.saves_whole_model else self.folder.adapter

    def save_result(self) -> None:
        """Write the result and rename it into place, unless an earlier process of this run has saved it.

        Raises ResourceError if the disk is full, RunFolderError if the folder cannot be written.
        """
        if self._is_saved():
            self.log.emit("note", text=f"the result was saved before and stays as it is: {self.result}")
            return
        with saving(self.result, self.progress.step), staged_folder(self.result) as staging:
            if self.attached.saves_whole_model:
                set_stops(base_of(self.attached.model), self.comparison.data.template.stop_ids)
            self.attached.save(staging)
            facts = self._facts()
            if not self.attached.saves_whole_model:
                _name_base(staging, facts.base)
                write_fingerprint(staging, self.base)
            # Other tools should also use the system prompt that all rows were trained with.
            tokenizer = with_trained_system(self.comparison.data.template, self.comparison.system)
            tokenizer.save_pretrained(_tokenizer_folder(self.attached, self.comparison, staging))
            write_card(staging, facts)
            shutil.rmtree(self.result, ignore_errors=True)  # last: the old result is usable until now
        remember_place(self.base, self.recipe.model.name)
        self.log.emit("saved", step=self.progress.step, path=str(self.result))

    def _is_saved(self) -> bool:
        """Return whether the result of this step lies in the folder; it is renamed into place when it is whole."""
        saved = [event["step"] for event in read_events(self.folder.events) if event["event"] == "saved"]
        return self.result.is_dir() and saved[-1:] == [self.progress.step]

    @contextmanager
    def saved(self) -> Iterator[None]:
        """For the context, a signal says that the result is saved and how to write the report later."""
        try:
            yield
        except (KeyboardInterrupt, Terminated) as stop:
            if self.folder.report.is_file():  # all is written; train_recipe says so
                raise
            kind = Terminated if isinstance(stop, Terminated) else Interrupted
            what = "the run was stopped before its report was written; what it trained is saved"
            remedy = f"weitiao train --resume {self.folder.root}"
            raise kind(Problem(what, str(self.result), remedy=remedy)) from stop

    def finish(self) -> Run:
        """Write the card again, now with scores, and the report; emit `finished` and return the run."""
        facts = self._facts()
        verdict = self._judged(facts)
        facts = replace(facts, verdict=verdict)
        # Signals wait, so that a run with a `finished` event always has its report.
        with signals_wait(), saving(self.folder.root, self.progress.step):
            write_card(self.result, facts)
            self.log.emit("verdict", **verdict.as_fields())
            self.log.emit(
                "finished",
                out=str(self.folder.root),
                adapter=str(self.result),
                held_out=_held_out_fields(self.comparison),
                seconds=self.progress.seconds,
                whole_seconds=facts.whole_seconds,
                result_step=self.result_step,
                step=self.progress.step,
                steps=self.chosen.steps,
                peak_memory_bytes=facts.peak_memory_bytes,
                tokens_per_second=facts.tokens_per_second,
            )
            write_report(self.folder.root, facts)
        return Run(self.folder, self.recipe)

    def _judged(self, facts: ReportFacts) -> Verdict:
        """Return the verdict on the run."""
        before, after = self.comparison.before, self.comparison.after
        width = width_of(base_of(self.attached.model))
        seen = training_seen(
            self.recipe,
            self.comparison.data,
            self.progress,
            facts.losses,
            list(read_events(self.folder.events)),
            self.recipe.lr_for(width),
        )
        old, new = (look.held_out if look else None for look in (before, after))
        return judge(old, new, facts.answers, seen, self.comparison.panel_score)

    def _facts(self) -> ReportFacts:
        events = list(read_events(self.folder.events))
        trainable, total = count_parameters(self.attached.model)
        recipe, progress, comparison = self.recipe, self.progress, self.comparison
        return ReportFacts(
            run=public_path(self.folder.root),
            base=public_name(recipe.model.name),
            data=[public_name(source.path or "Python rows") for source in recipe.data.sources],
            data_lines=comparison.data.summary.lines(),
            method=recipe.method.name,
            method_title=recipe.method.title,
            method_settings=recipe.method.model_dump(mode="json"),
            trainable=trainable,
            total=total,
            left_out=self.left_out,
            steps=progress.step,
            chosen=self.chosen,
            seconds=progress.seconds,
            whole_seconds=time.monotonic() - self.began,
            result_step=self.result_step,
            chosen_by_loss=recipe.train.keep_best and _looks(events) > 1,
            tokens_per_second=progress.tokens / progress.seconds if progress.seconds else 0.0,
            peak_memory_bytes=peak_memory_bytes(),
            result=self.result.name,
            is_adapter=not self.attached.saves_whole_model,
            needs_weitiao=needs_registering(self.attached),
            before=_scores(comparison.before.held_out if comparison.before else None),
            after=_scores(comparison.after.held_out if comparison.after else None),
            losses=[(event["step"], event["loss"]) for event in steps_that_count(iter(events))],
            held_out_losses=held_out_points(events),
            answers=comparison.answers,
            most_new_tokens=recipe.evaluate.generation.max_new_tokens,
            failures=comparison.failures,
            versions={
                "python": platform.python_version(),
                "weitiao": VERSION,
                **{name: version(name) for name in PACKAGES},
            },
            base_hub_id=hub_id_of(recipe.model),
        )


def _name_base(adapter: Path, base: str) -> None:
    """Replace the base's path in an adapter's config, as written by PEFT, by the base's name."""
    path = adapter / CONFIG
    settings = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**settings, "base_model_name_or_path": base})


def _tokenizer_folder(attached: Attached, comparison: Comparison, result: Path) -> Path:
    """Return the folder for a result's tokenizer: next to the weights, except where that would change the model.

    If PEFT up to 0.17 finds a tokenizer next to an adapter, it resizes the embedding to the tokenizer's vocabulary. A
    vocabulary padded to a round number of rows would lose its last rows.
    """
    rows = base_of(attached.model).config.get_text_config().vocab_size
    is_safe = attached.saves_whole_model or len(comparison.tokenizer) == rows
    return result if is_safe else result / TOKENIZER_FOLDER


def public_path(folder: Path) -> str:
    """Return a run's folder relative to the working directory, or only its name: no parent folders are revealed."""
    if not folder.is_absolute():
        return str(folder)
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else folder.name


def _looks(events: Sequence[Event]) -> int:
    """Return the number of steps after which the held-out loss was evaluated."""
    return len({event["step"] for event in events if event["event"] == "evaluated"})


def _scores(held_out: HeldOut | None) -> Scores | None:
    return Scores(held_out.loss, held_out.measures) if held_out else None


def _held_out_fields(comparison: Comparison) -> dict[str, dict[str, float]]:
    looks = {"before": comparison.before, "after": comparison.after}
    return {name: look.held_out.as_fields() for name, look in looks.items() if look and look.held_out}
