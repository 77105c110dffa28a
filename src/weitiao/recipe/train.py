"""Runs a recipe: check, load, measure before, train, save, measure after, report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.dotted_names import by_dotted_name
from ..core.errors import Interrupted, Problem, RunFolderError, SettingsError, Terminated, raise_all
from ..core.events import Event, EventLog, Listener, Progress, read_events
from ..core.files import PRIVATE_FILE, saving, write_atomic
from ..core.run_folder import RunFolder
from ..core.settings import read_yaml
from ..engine.runtime.signals import sigterm_as_ctrl_c
from .identity import require_base_of_run, settings_and_data
from .preflight import Ready, preflight
from .recipe import Recipe, parse_recipe, read_words
from .run import Run

if TYPE_CHECKING:
    from ..engine.loop import Training


def train_recipe(recipe: Recipe, listeners: Sequence[Listener] = (), began: float | None = None) -> Run:
    """Train a recipe into its folder; raises WeitiaoError, if possible before a model is loaded.

    `began` is the start of the command in time.monotonic() seconds, by default now.
    """
    began = time.monotonic() if began is None else began
    for line in recipe.said:
        _tell(listeners, {"event": "read_as", "text": line})
    _prepare(recipe, listeners)
    recipe = recipe.with_absolute_paths()
    ready = preflight(recipe, on_rows=_rows_told(listeners))
    recipe, folder = ready.recipe, RunFolder(recipe.out)
    with sigterm_as_ctrl_c(), _finished_is_said(folder), folder.locked():
        folder.require_new()
        session = _Session(recipe, folder, listeners, began)
        try:
            with saving(folder.root):
                write_atomic(folder.run_yaml, recipe.as_yaml(), PRIVATE_FILE)
            return session.train(ready)
        finally:
            if not session.under_way:  # it failed or was stopped before there was anything to resume
                folder.clear()


def resume_run(
    root: str | Path,
    words: Sequence[str] = (),
    listeners: Sequence[Listener] = (),
    began: float | None = None,
) -> Run:
    """Resume an interrupted run from its newest valid checkpoint; raises RunFolderError, SettingsError.

    `began` as in `train_recipe`.
    """
    began = time.monotonic() if began is None else began
    folder = RunFolder(Path(root))
    folder.require_run()
    recipe = _changed(folder, read_words(words))
    _require_unfinished(folder)
    _prepare(recipe, listeners)
    ready = preflight(recipe, new_folder=False, day=_day_of(folder), on_rows=_rows_told(listeners))
    with sigterm_as_ctrl_c(), _finished_is_said(folder), folder.locked():
        if ready.awaited is None:  # else the data is complete only after the model has answered
            _require_same_run(folder, settings_and_data(ready.recipe, ready.data))
        keeps_packs = not any(word.partition("=")[0].strip().endswith("pack_tokens") for word in words)
        return _Session(ready.recipe, folder, listeners, began, keeps_packs).train(ready)


def _require_unfinished(folder: RunFolder) -> None:
    """Raise RunFolderError if nothing is left to do: the report is written, or there is nothing to write it from.

    Without a checkpoint, a run whose result is saved would be trained again from its beginning.
    """
    from ..engine.checkpoint import newest_whole

    what = "this run has finished: there is no step left to train"
    if not folder.report.is_file():
        if not folder.has_result or newest_whole(folder.checkpoints)[0] is not None:
            return
        what = "the result of this run is saved, and no checkpoint is left from which to write its report"
    kept = folder.adapter if folder.adapter.is_dir() else folder.model
    setting = "model.adapter" if folder.adapter.is_dir() else "model.name"
    remedy = (
        f"weitiao chat {shlex.quote(str(folder.root))}, or a new run that continues from it: {setting}={kept}"
    )
    raise RunFolderError(Problem(what, str(folder.root), "a run that was interrupted", remedy))


@contextmanager
def _finished_is_said(folder: RunFolder) -> Iterator[None]:
    """Turn a signal that comes after everything is written into one that says so; earlier signals pass unchanged."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        if not folder.report.is_file():
            raise
        kind, name = (Terminated, "SIGTERM") if isinstance(stop, Terminated) else (Interrupted, "Ctrl-C")
        what = f"{name} came when the run had finished: everything is written"
        remedy = f"weitiao chat {shlex.quote(str(folder.root))}"
        raise kind(Problem(what, str(folder.report), remedy=remedy)) from stop


def _day_of(folder: RunFolder) -> date | None:
    """Return the date that a run's rows were rendered with, if its template writes the date; else None."""
    days = [event.get("day") for event in read_events(folder.events) if event["event"] == "data"]
    try:
        return date.fromisoformat(days[-1]) if days and isinstance(days[-1], str) else None
    except ValueError:
        return None


def _prepare(recipe: Recipe, listeners: Sequence[Listener]) -> None:
    """Convert the model if it needs conversion, and announce the checks."""
    from ..models.resolve import convert_first

    convert_first(recipe.model.name, lambda text: _say(listeners, text))
    _say(listeners, "checking the settings, reading and tokenising the data")


def _rows_told(listeners: Sequence[Listener]) -> Callable[[int], None]:
    """Return a function that reports the number of rows read to the listeners, at most once a second."""
    progress = Progress(
        lambda kind, **fields: _tell(listeners, {"event": kind, **fields, "unit": "rows read"})
    )
    return progress.counted


def _tell(listeners: Sequence[Listener], event: Event) -> None:
    for listener in listeners:
        listener(event)


def _say(listeners: Sequence[Listener], text: str) -> None:
    """Report a stage to the listeners while there is no run folder for events yet."""
    _tell(listeners, {"event": "stage", "text": text})


def _require_same_run(folder: RunFolder, identity: Mapping[str, str]) -> None:
    """Raise RunFolderError, before a model is loaded, if the checkpoints are from other data or settings."""
    from ..engine.checkpoint import newest_whole, require_identity

    path, _ = newest_whole(folder.checkpoints)
    if path is not None:
        require_identity(path, identity)


def _changed(folder: RunFolder, changes: Mapping[str, Any]) -> Recipe:
    """Apply overrides to a run's own file; refuse every change that would make it another run."""
    old = parse_recipe(read_yaml(folder.run_yaml))
    new = parse_recipe({**old.as_dict(), "out": str(folder.root)}, changes)
    was, wanted = old.decides(), new.decides()
    changed = [key for key in {**was, **wanted} if wanted.get(key) != was.get(key)]
    raise_all(
        SettingsError,
        [
            Problem(
                f"{key} cannot change when a run is resumed",
                f"{key}: {wanted.get(key)!r}",
                f"{key}: {was.get(key)!r}",
                f"a new run: weitiao train {folder.run_yaml} {key}={wanted.get(key)} --out NEW",
            )
            for key in changed
        ],
    )
    return new


@dataclass
class _Session:
    """The work of one process on one run."""

    recipe: Recipe
    folder: RunFolder
    listeners: Sequence[Listener]
    began: float
    """Start of the command, in time.monotonic() seconds."""
    keeps_packs: bool = True
    """Whether a resumed run keeps its reduced pack size; not if the person has just set the size."""
    under_way: bool = False
    """Whether training has begun."""

    def train(self, ready: Ready) -> Run:
        from ..engine.kernels.matmul import products_from
        from ..engine.runtime.tracking import Tracking

        earlier = list(read_events(self.folder.events))
        tracking = Tracking(self.recipe.track, self.folder.root, settings_for_trackers(self.recipe))
        log = EventLog(self.folder.events, (*self.listeners, tracking))
        try:
            with products_from(self.recipe.train.matmul):
                return self._train(ready, log, earlier)
        finally:
            tracking.close()
            log.close()

    def _train(self, ready: Ready, log: EventLog, earlier: Sequence[Event]) -> Run:
        from ..engine.runtime.batches import StepPlan
        from ..models.fingerprint import fingerprint, write_fingerprint
        from ..models.hubs.fetch import fetch_model
        from ..models.load import load_model, weights_folder
        from .baseline import Comparison, systems_of
        from .build import attach, build_training, choose_kernels, forward_for, frozen_once, precision_for
        from .final_settings import chosen_for
        from .general_answers import with_general_answers
        from .outcome import Outcome

        data = ready.data
        day = str(data.template.day) if data.template.writes_date else None
        if self.recipe.said:
            log.emit("names", lines=list(self.recipe.said))
        systems = systems_of(self.recipe, data)
        log.emit(
            "data",
            summary=data.summary.as_dict(),
            lines=data.summary.lines(),
            day=day,
            systems=systems.as_fields() if systems else None,
        )
        if ready.choices:
            log.emit("choices", rows=[choice.as_fields() for choice in ready.choices])
        for part in ready.left_out:
            log.emit("note", text=part)
        fetch_model(self.recipe.model, partial(self._show, log))
        log.emit("stage", text=f"loading {self.recipe.model.name}")
        model = load_model(self.recipe.model)
        choose_kernels(self.recipe, model, log)
        base = fingerprint(model, weights_folder(self.recipe.model))
        precision = precision_for(self.recipe.model, model)
        for note in require_base_of_run(self.recipe, self.folder, base):
            log.emit("note", text=note)
        if ready.awaited is not None:
            data = with_general_answers(
                ready.awaited, data, model, ready.tokenizer, self.folder, base, precision, log
            )
        comparison = Comparison(self.recipe, ready.tokenizer, data)
        modules = [name for name, _ in model.named_modules()]
        attached = attach(self.recipe, model, data, log)
        forward = forward_for(attached, precision, log)
        comparison.prepare_baseline(forward, attached, earlier, log)
        training = build_training(
            self.recipe, self.folder, attached, data, forward, base, log, comparison=comparison
        )
        chosen = chosen_for(self.recipe, attached, modules, data, StepPlan.of(data.train, self.recipe.train))
        log.emit("chosen", **chosen.as_fields())
        # Before the checkpoint is read, so that a resumed run caches the same outputs as an uninterrupted one.
        with frozen_once(self.folder, training, data, log):
            self._resume(training, log)
            earlier_seconds = training.progress.seconds
            with saving(self.folder.root):
                write_fingerprint(self.folder.root, base)
            self.under_way = True
            progress = training.run()
            outcome = Outcome(
                recipe=self.recipe,
                folder=self.folder,
                attached=attached,
                comparison=comparison,
                progress=progress,
                base=base,
                log=log,
                chosen=chosen,
                began=self.began - earlier_seconds,
                result_step=training.result_step,
                left_out=ready.left_out,
            )
            outcome.save_result()  # before the model is used for anything else
            with outcome.saved():
                comparison.look_after(training.stepper.forward, attached, log, training.result_loss)
        with outcome.saved():
            return outcome.finish()

    def _show(self, log: EventLog, event: Event) -> None:
        """Write a stage to the events; a download's progress goes only to the listeners."""
        if event["event"] == "stage":
            log.emit("stage", text=event["text"])
        else:
            _tell(self.listeners, event)

    def _resume(self, training: Training, log: EventLog) -> None:
        """Load the newest valid checkpoint, if there is one, with a note on those that were skipped."""
        from ..engine.checkpoint import newest_whole

        path, passed_over = newest_whole(self.folder.checkpoints)
        for reason in passed_over:
            log.emit("note", text=reason)
        if path is not None:
            training.resume(path, self.keeps_packs)
        elif passed_over:
            log.emit("note", text="no checkpoint is complete, so the run starts from the beginning")
        log.emit(
            "started",
            step=training.progress.step,
            steps=training.plan.total_steps,
            out=str(self.folder.root),
        )


def settings_for_trackers(recipe: Recipe) -> dict[str, str | int | float | bool]:
    """Return a recipe as flat values for trackers, which may upload them; rows and questions are left out."""
    raw = recipe.as_dict()
    for source in raw["data"]["sources"]:
        if source.get("rows") is not None:
            source["rows"] = f"{len(source['rows'])} rows given from Python"
    asked = len(raw["evaluate"]["questions"])
    raw["evaluate"]["questions"] = f"{asked} question{'s' * (asked != 1)}"
    return {
        key: value if isinstance(value, bool | int | float) else str(value)
        for key, value in by_dotted_name(raw).items()
    }
