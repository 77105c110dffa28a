"""A run's verdict: in its events, both reports, Python and the terminal; and what it is measured with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from weitiao.cli._console import PlainSteps, RunConsole
from weitiao.core.events import read_events
from weitiao.core.locale import in_language
from weitiao.evaluation.held_out import HeldOut
from weitiao.evaluation.verdict import KINDS, paired_interval
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.run import Run
from weitiao.recipe.train import train_recipe


def asking(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a run that asks two questions, in four tokens."""
    return {**recipe, "evaluate": {"question_count": 2, "generation": {"max_new_tokens": 4}}}


@pytest.fixture
def asked(recipe: dict[str, Any]) -> dict[str, Any]:
    return asking(recipe)


@pytest.fixture(scope="module")
def judged(recipe_in: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Such a run with four rows held out; read only."""
    recipe = asking(recipe_in(tmp_path_factory.mktemp("judged")))
    return train_recipe(parse_recipe({**recipe, "data": {**recipe["data"], "held_out": 4}}))


def test_it_is_in_events_reports_and_python(judged: Run) -> None:
    run = judged
    told = {event["event"]: event for event in read_events(run.folder.events)}
    verdict = told["verdict"]
    assert run.verdict == verdict["kind"]
    assert f"## Verdict: {run.verdict}" in run.folder.report.read_text(encoding="utf-8")
    assert f"## 结论：{in_language(verdict['kind'], 'zh')}" in run.folder.report_zh.read_text(
        encoding="utf-8"
    )
    assert verdict["answers"] == 2
    assert list(told).index("verdict") < list(told).index("finished")


def test_its_change_is_that_of_the_losses_reported(judged: Run) -> None:
    run = judged
    verdict = next(event for event in run.events if event["event"] == "verdict")
    before, after = (run.held_out[when]["loss"] for when in ("before", "after"))
    assert verdict["rows"] == 4
    assert verdict["change"]["change"] == pytest.approx(after - before, abs=1e-6)
    assert verdict["change"]["low"] <= verdict["change"]["change"] <= verdict["change"]["high"]
    first = HeldOut.from_fields(next(event for event in run.events if event["event"] == "before")["held_out"])
    assert len(first.rows) == 4 and paired_interval(first, first) is not None


def test_general_questions_are_asked_only_where_anything_is(asked: dict[str, Any], tmp_path: Path) -> None:
    def answers(name: str, **evaluate: Any) -> list[str] | None:  # noqa: ANN401
        changed = {
            **asked,
            "method": "full",
            "train": {**asked["train"], "steps": 1},
            "evaluate": {**asked["evaluate"], **evaluate},
            "out": tmp_path / name,
        }
        events = train_recipe(parse_recipe(changed)).events
        return next(event for event in events if event["event"] == "before")["panel"]  # type: ignore[no-any-return]

    assert len(answers("asked") or []) == 16
    assert answers("without a panel", panel=False) is None
    assert answers("without questions", question_count=0) is None


def test_a_run_whose_loss_is_not_finite_got_worse(asked: dict[str, Any]) -> None:
    asked["data"] = {**asked["data"], "held_out": 4}
    run = train_recipe(parse_recipe({**asked, "train": {"steps": 1, "lr": 1e30, "warmup_steps": 0}}))
    assert run.verdict == "got worse"
    report = run.folder.report.read_text(encoding="utf-8")
    assert "not a finite number" in report and "+nan" not in report


@pytest.mark.parametrize("kind", KINDS)
def test_the_terminal_ends_with_the_word_and_never_with_done(kind: str) -> None:
    console = Console(width=80, record=True, force_terminal=False)
    draw = RunConsole(console, PlainSteps(console))
    fields = {"because": "it fell", "change": None, "rows": 2, "answers": 0, "general": None}
    draw({"event": "verdict", "kind": kind, "cautions": [], "advice": [], **fields})
    draw({
        "event": "finished", "out": "runs/x", "adapter": "runs/x/adapter", "held_out": {}, "seconds": 1.0,
        "peak_memory_bytes": 1, "tokens_per_second": 1.0, "step": 1, "steps": 1,
    })  # fmt: skip
    shown = console.export_text()
    assert f"\n{kind} ─" in shown and "\ndone" not in shown and "it fell" in shown
