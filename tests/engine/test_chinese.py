"""What the engine says of a run has its Chinese as it is shown: whole sentences, made of several."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from weitiao.core.errors import Problem
from weitiao.core.locale import in_language
from weitiao.engine.checkpoint import MANIFEST, damage_of
from weitiao.engine.memory.budget import MemoryPlan
from weitiao.engine.optim.schedules import ScheduleSettings, warmup_notes
from weitiao.engine.step import not_finite_problem

ENGLISH = re.compile(r"[a-z]{2,},? [a-z]{2,}")


def assert_chinese(text: str) -> None:
    chinese = in_language(text, "zh")
    assert not ENGLISH.search(chinese), chinese
    assert re.search(r"[\u4e00-\u9fff]", chinese), chinese
    assert set(re.findall(r"\d+", text)) == set(re.findall(r"\d+", chinese))


@pytest.mark.parametrize("wanted", [512, 200])
@pytest.mark.parametrize("recompute", ["none", "elementwise", "full", "every-2"])
@pytest.mark.parametrize("free_bytes", [3e9, float("inf")])
def test_a_plan_of_memory(wanted: int, recompute: str, free_bytes: float) -> None:
    assert_chinese(str(MemoryPlan(200, recompute, 10**9, free_bytes, wanted)))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"warmup_steps": 1}, 1),
        ({"warmup_steps": 10}, 10),
        ({"warmup_steps": 9}, 10),
        ({"warmup_steps": 3, "scheduler": "constant"}, 10),
        ({"warmup_steps": 3, "scheduler": "greedy"}, 10),
    ],
)
def test_a_note_on_the_warmup(settings: dict[str, object], steps: int) -> None:
    [note] = warmup_notes(ScheduleSettings(**settings), steps)
    assert_chinese(note)


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    assert_chinese(f"the checkpoint is damaged: {damage_of(tmp_path)}")
    (tmp_path / MANIFEST).write_text('{"format": 99, "step": 1, "files": {}}', encoding="utf-8")
    assert_chinese(f"the checkpoint is damaged: {damage_of(tmp_path)}")
    folder = tmp_path / "step-00000001"
    assert_chinese(f"{folder.name} is damaged: state.json has 12 bytes, the manifest says 40")


@pytest.mark.parametrize("rows", [[], ["a.json:3", "a.json:9"]])
def test_a_step_that_is_not_finite(rows: list[str]) -> None:
    problem: Problem = not_finite_problem(3, float("nan"), 1.0, rows)
    for text in (problem.what, problem.expected, problem.remedy):
        assert_chinese(text)
    assert_chinese(problem.got)
