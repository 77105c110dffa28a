"""What a verdict says to type is typed: it is a setting, it changes the run, and a longer run is longer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from weitiao.core.events import Event, read_events
from weitiao.core.settings import parse_overrides
from weitiao.data.gate.store import draws_of
from weitiao.engine.checkpoint import load_checkpoint, newest_whole
from weitiao.engine.loop import TrainingState
from weitiao.engine.runtime.batches import StepPlan
from weitiao.evaluation.held_out import HeldOut
from weitiao.evaluation.panel import PanelChange, PanelScore
from weitiao.evaluation.verdict import TrainingSeen, judge
from weitiao.recipe.advice import training_seen
from weitiao.recipe.preflight import Ready, preflight
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.run import Run
from weitiao.recipe.train import train_recipe

WILD = {"lr": 0.1, "batch_size": 8, "scheduler": "constant"}
"""A rate at which the held-out loss soon rises."""
LOST = PanelScore(12, 9, 8, (PanelChange("?", "5", "6"),), ())
ROWS = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(40)]

LENGTHS: dict[str, tuple[dict[str, Any], str]] = {
    "steps set": ({"steps": 3}, "train.steps=6"),
    "steps and epochs set": ({"steps": 3, "epochs": 4}, "train.steps=6"),
    "epochs set": ({"epochs": 2}, "train.epochs=4"),
    "part of an epoch": ({"epochs": 0.05}, "train.epochs=0.4"),
    "nothing set, stopped early": (WILD, "train.epochs="),
    "own patience": (
        {**WILD, "epochs": 6, "eval_every": 1, "early_stopping_patience": 1},
        "train.early_stopping_patience=2",
    ),
    "own patience, epochs open": (
        {**WILD, "eval_every": 1, "early_stopping_patience": 1},
        "train.early_stopping_patience=2",
    ),
    "own least gain": (
        {"lr": 1e-3, "epochs": 6, "early_stopping_patience": 2, "early_stopping_min_delta": 9.0},
        "train.early_stopping_min_delta=0",
    ),
    "own least gain, the rest open": (
        {"lr": 1e-3, "early_stopping_min_delta": 9.0},
        "train.early_stopping_min_delta=0",
    ),
}
"""Settings of the length, and what a longer run is asked for with."""

HELD_OUT: dict[str, tuple[list[dict[str, str]], dict[str, Any], str]] = {
    "few rows": (ROWS[:9], {}, "data.held_out=3"),
    "too few rows": (ROWS[:5], {}, ""),
    "ten rows": (ROWS[:10], {"held_out": 0}, "data.held_out=3"),
    "many rows": (ROWS, {"held_out": 2}, "data.held_out=10"),
    "equal rows": (ROWS[:2] * 10, {"held_out": 0}, ""),
    "a file of its own": (ROWS, {"held_out_path": "own.json"}, ""),
    "replay": (ROWS, {"held_out": 0, "replay": {"share": 2, "answers": "own.json"}}, "data.held_out=10"),
}
"""Rows, settings of the data, and the word for enough held-out rows."""


def blocks(
    recipe: dict[str, Any],
    folder: Path,
    rows: list[dict[str, str]],
    data: dict[str, Any],
    settings: dict[str, Any],
) -> dict[str, Any]:
    (folder / "advised.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "own.json").write_text(json.dumps(ROWS[:2]), encoding="utf-8")
    data = json.loads(json.dumps(data).replace("own.json", str(folder / "own.json")))
    return {**recipe, "data": {"sources": str(folder / "advised.json"), **data}, "train": settings}


@pytest.fixture(scope="module")
def wild(recipe_in: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that sets no length, and stopped early; read only."""
    folder = tmp_path_factory.mktemp("wild")
    return train_recipe(parse_recipe(blocks(recipe_in(folder), folder, ROWS[:20], {}, WILD)))


def seen_of(run: Run) -> TrainingSeen:
    """Return what a finished run's verdict was judged by."""
    newest, _ = newest_whole(run.folder.checkpoints)
    assert newest is not None
    progress = TrainingState(**load_checkpoint(newest, {}).progress)
    data = preflight(run.recipe, new_folder=False).data
    events = list(read_events(run.folder.events))
    losses = [(event["step"], event["loss"]) for event in events if event["event"] == "step"]
    return training_seen(run.recipe, data, progress, losses, events, run.recipe.method.lr_for(32))


def every_word(seen: TrainingSeen) -> set[str]:
    """Return all that a verdict could say to type after a run with these settings."""
    before = HeldOut(3.0, tuple((30.0 + n, 10.0) for n in range(12)))

    def moved(by: float) -> HeldOut:
        return HeldOut(
            3.0 + by, tuple((loss + 10 * by + n % 2, 10.0) for n, (loss, _) in enumerate(before.rows))
        )

    looks = [(before, moved(by)) for by in (-1.0, -0.05, 1.0, float("nan"))]
    seens = [replace(seen, last_loss=last, best_is_last=best) for last in (1, 9) for best in (True, False)]
    every: list[tuple[HeldOut | None, HeldOut | None]] = [*looks, (None, None)]
    verdicts = [judge(*look, [], one, LOST) for look, one in product(every, seens)]
    assert {verdict.kind for verdict in verdicts} == {"learnt", "hardly changed", "got worse", "not measured"}
    return {advice.word for verdict in verdicts for advice in verdict.advice} - {""}


def seen_after_one_step(ready: Ready) -> TrainingSeen:
    """Return what a run's verdict is judged by after the only step of its settings."""
    recipe, data = ready.recipe, ready.data
    return training_seen(recipe, data, TrainingState(step=1), [(1, 5.0)], [], recipe.method.lr_for(32))


def verdict_of(run: Run) -> Event:
    return next(event for event in run.events if event["event"] == "verdict")


def fate(ready: Ready) -> tuple[Any, ...]:
    """Return what decides how a run goes."""
    own = [example.place for example in ready.data.held_out]
    return ready.recipe.train.model_dump(), own, ready.recipe.data.replay, sum(draws_of(ready.data.train))


def typed(raw: dict[str, Any], folder: Path, word: str) -> Ready:
    return preflight(parse_recipe({**raw, "out": str(folder / "typed")}, parse_overrides([word])))


def every_word_changes(raw: dict[str, Any], folder: Path, seen: TrainingSeen) -> None:
    """Fail where a run goes as before though a word that a verdict could say is typed."""
    before = fate(typed(raw, folder, "train.seed=42"))
    for word in every_word(seen):
        assert fate(typed(raw, folder, word)) != before, word


def steps_of(raw: dict[str, Any], folder: Path, word: str) -> int:
    """Return the number of steps of a run for which a word is typed; trained only where it may end before its plan."""
    ready = typed(raw, folder, word)
    if isinstance(ready.recipe.train.early_stopping_patience, int):
        again = parse_recipe({**raw, "out": str(folder / "longer")}, parse_overrides([word]))
        return len(train_recipe(again).losses)
    return StepPlan.of(ready.data.train, ready.recipe.train).total_steps


SLOW = (
    "steps and epochs set",
    "part of an epoch",
    "own patience, epochs open",
    "own least gain, the rest open",
    "many rows",
)
"""The words of the case before each, in a run with other settings."""


def cases(table: Iterable[str]) -> list[Any]:
    return [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in table]


@pytest.mark.parametrize("case", cases(LENGTHS))
def test_every_word_changes_the_run_and_a_longer_one_is_longer(
    case: str, recipe: dict[str, Any], wild: Run, tmp_path: Path
) -> None:
    settings, longer = LENGTHS[case]
    raw = blocks(recipe, tmp_path, ROWS[:20], {}, settings)
    run = wild if settings is WILD else train_recipe(parse_recipe(raw))
    seen = seen_of(run)
    assert seen.longer.startswith(longer)
    assert bool(seen.stopped_by) == ("early_stopping" in longer)
    told = verdict_of(run)["advice"]
    assert {advice["word"] for advice in told} <= every_word(seen)
    every_word_changes(raw, tmp_path, seen)
    assert steps_of(raw, tmp_path, seen.longer) > len(run.losses)


@pytest.mark.parametrize("case", cases(HELD_OUT))
def test_rows_are_held_out_by_a_word_only_where_it_works(
    case: str, recipe: dict[str, Any], tmp_path: Path
) -> None:
    rows, data, word = HELD_OUT[case]
    raw = blocks(recipe, tmp_path, rows, data, {"steps": 1})
    ready = preflight(parse_recipe(raw))
    seen = seen_after_one_step(ready)
    look = HeldOut(3.0, ((30.0, 10.0),) * held) if (held := len(ready.data.held_out)) else None
    verdict = judge(look, look, [], seen, None)
    assert verdict.kind == "not measured"
    assert [advice.word for advice in verdict.advice] == [word]
    every_word_changes(raw, tmp_path, seen)
    if word:
        ready = typed(raw, tmp_path, word)
        assert 3 <= len(ready.data.held_out) < len(ready.data.train)


def test_a_run_over_few_rows_says_it_and_is_measured_once_it_is_typed(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    rows, data, word = HELD_OUT["few rows"]
    raw = blocks(recipe, tmp_path, rows, data, {"steps": 1})
    run = train_recipe(parse_recipe(raw))
    verdict = verdict_of(run)
    assert verdict["kind"] == "not measured"
    assert [advice["word"] for advice in verdict["advice"]] == [word]
    assert seen_of(run).more_held_out == word
    again = train_recipe(parse_recipe({**raw, "out": str(tmp_path / "again")}, parse_overrides([word])))
    assert verdict_of(again)["change"]


def test_a_resumed_run_knows_what_was_chosen(wild: Run) -> None:
    """Its run file holds every setting; the events of its first process say which of them a person gave."""
    assert wild.recipe.train.early_stopping_patience == 2
    assert seen_of(wild).stopped_by == ""


def test_no_more_general_rows_are_asked_for_than_there_are(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "general.json").write_text(json.dumps(ROWS[:4]), encoding="utf-8")
    own = str(tmp_path / "general.json")
    for share, word in ((2, "data.replay=4"), (6, ""), (0.04, "data.replay=0.08"), (0.5, "")):
        replay = {"share": share, "answers": own}
        raw = blocks(recipe, tmp_path, ROWS, {"replay": replay}, {"steps": 1})
        assert seen_after_one_step(preflight(parse_recipe(raw))).more_replay == word
