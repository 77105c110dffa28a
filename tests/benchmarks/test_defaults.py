"""The comparison of defaults: its data sets, that each run file is one, and what its page says of canned runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from weitiao.methods import METHODS
from weitiao.recipe.recipe import parse_recipe

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import defaults
from lib.default_data import TASKS, rows_of

OWN = [task for task in TASKS if task != "alpaca"]


@pytest.mark.parametrize("task", OWN)
def test_a_task_has_between_30_and_1000_different_rows_and_always_the_same(task: str) -> None:
    rows = rows_of(task, None)
    assert 30 <= len(rows) <= 1000
    assert len({json.dumps(row) for row in rows}) == len(rows)
    assert rows == rows_of(task, None)
    assert "{{" not in json.dumps(rows)


def test_alpaca_rows_come_from_the_callers_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"instruction": "Hi", "input": "", "output": "x" * n} for n in (3, 900, 5)]))
    assert [len(row["output"]) for row in rows_of("alpaca", file)] == [3, 5]
    with pytest.raises(SystemExit, match="--alpaca FILE"):
        rows_of("alpaca", None)


@pytest.mark.parametrize("name", METHODS.names())
def test_each_run_is_a_run_file_around_the_methods_own_rate(name: str) -> None:
    options = argparse.Namespace(dtype="fp32", alpaca=None)
    method = defaults.full_method(name)
    runs = [defaults.recipe_of("style", method, options, rate, 1.0) for rate in defaults.FACTORS]
    rates = [parse_recipe(run).lr for run in runs]
    own = METHODS.load(name).suggested_lr
    assert rates == pytest.approx([own / 3, own, own * 3], rel=0.04)


class Canned(defaults.Bench):
    """Runs that end as a formula says."""

    def __init__(self, best_rate: float) -> None:
        self.best_rate = best_rate

    def loss(
        self, task: str, method: dict[str, Any], rate: float = 1.0, length: float = 1.0
    ) -> dict[str, Any]:
        after = 2.0 + abs(rate - self.best_rate) + 0.01 * length
        train = {"epochs": 6 * length}
        return {"lr": 1e-3 * rate, "before": 4.0, "after": after, "task": json.dumps({"train": train})}


def report(best_rate: float) -> dict[str, Any]:
    bench = Canned(best_rate)
    rows = defaults.lora_rows(bench, "style")
    for row in rows:
        row["epochs"] = json.loads(row["task"])["train"]["epochs"]
    return {
        "date": "2026-11-27",
        "command": "python benchmarks/defaults.py",
        "machine": "a machine",
        "dtype": "fp32",
        "versions": {"weitiao": "0"},
        "lora": {"style": rows},
        "methods": {"ia3": defaults.method_rows(bench, "ia3")},
        "pairs": list(defaults.nearly_equal(map(canned_run, (1e-3, 1.04e-3, 3e-3)))),
    }


def canned_run(lr: float) -> dict[str, Any]:
    task = json.dumps({"task": "identity", "train": {"lr": lr}})
    return {"name": "ia3", "lr": lr, "after": 2 + 100 * lr, "task": task}


def test_the_page_says_whether_the_default_is_near_the_best() -> None:
    good = defaults.page(report(1.0))
    assert "**Within 3 % of the best on 1 of 1 data sets.**" in good
    assert (
        "| ia3 | 0.001 | 2.677 · **2.010** · 4.010 | +0%, 0.000 | 2.677 · **2.010** · 4.010 | +0%, 0.000 |"
        in good
    )
    assert "within 10% or 0.05 nats: 1; not: none.**" in good
    assert (
        "| ia3 | identity | 0.001, 0.00104 | 2.100, 2.104 |" in good
        and "0.003" not in good.split("chance")[1]
    )
    assert "| 0.001 | 2.005 | **2.010** | 2.020 |" in good
    far = defaults.page(report(3.0))
    assert "**Within 3 % of the best on 0 of 1 data sets.**" in far and "too far" in far
    assert (
        "Within 10% of the best on both data sets: 0 of 1 methods; within 10% or 0.05 nats: 0; not: ia3."
        in far
    )


def test_runs_that_ended_well_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def run_one(name: str, work: dict[str, Any]) -> dict[str, Any]:
        made.append(name)
        row = {
            "name": name,
            "lr": work["recipe"]["train"]["lr"],
            "before": 4.0,
            "after": 2.0,
            "seconds": 60.0,
        }
        return row if len(made) != 2 else {"name": name, "lr": 1.0, "error": "killed"}

    monkeypatch.setattr(defaults, "run_one", run_one)
    options = argparse.Namespace(dtype="fp32", alpaca=None, out=tmp_path, threads=2)
    for _ in range(2):
        defaults.method_rows(defaults.Bench(options), "ia3")
    assert len(made) == 7, "six runs, and the one that failed once more"
