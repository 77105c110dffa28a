"""What a comparison makes of its runs: no ratio beside a side that trained otherwise, and ranges over the repeats."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from lib.environments import Measured
from lib.page import put_section, section
from lib.sides import LLAMA_FACTORY, Side, compare, fastest, unlike_ours


def run(speed: float, losses: list[float], peak_bytes: int = 2**20) -> Measured:
    return {
        "tokens_per_second": speed,
        "training_seconds": 100 / speed,
        "timed_seconds": 50 / speed,
        "first_step_seconds": 3.0,
        "peak_bytes": peak_bytes,
        "training_growth_bytes": peak_bytes // 2,
        "losses": losses,
    }


ALIKE = [2.0, 1.5]
RUNS: dict[str, list[Measured]] = {
    "weitiao": [run(300, ALIKE), run(330, ALIKE)],
    "slow": [run(100, [2.00005, 1.5]), run(100, ALIKE)],
    "fast": [run(150, ALIKE, 2**22), run(110, ALIKE, 2**22)],
    "other": [run(999, [2.001, 1.5])] * 2,
    "broken": [{"failed": "it ended"}],
}
SIDES = [
    Side(name, "peer" if name != "weitiao" else name, "none.py", LLAMA_FACTORY, says="") for name in RUNS
]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([2.00009, 1.5009], ""),
        ([2.0002, 1.5], "its first loss differs by 2.0e-04"),
        ([2.0, 1.502], "a later loss differs by 2.0e-03"),
        ([float("nan"), 1.5], "its first loss differs by nan"),
        ([2.0, float("nan")], "a later loss differs by nan"),
        ([2.0], "1 steps, not 2"),
    ],
)
def test_losses_that_differ_are_told(losses: list[float], said: str) -> None:
    assert unlike_ours(losses, ALIKE) == said


def test_a_later_loss_that_is_no_number_is_told_wherever_it_stands() -> None:
    assert unlike_ours([2.0, 1.0, float("nan"), 1.0], [2.0, 1.0, 1.0, 1.0]) == "a later loss differs by nan"


def test_ratios_are_those_of_the_repeats_with_their_range() -> None:
    ratios = compare(RUNS, "weitiao")["fast"]["ratios"]
    assert ratios["speed"] == [2.5, 2.0, 3.0]
    assert ratios["peak"] == [0.25, 0.25, 0.25]


def test_a_side_that_trained_otherwise_has_no_ratio() -> None:
    compared = compare(RUNS, "weitiao")
    assert "ratios" not in compared["other"]
    assert "ratios" not in compared["broken"]


def test_the_fastest_is_taken_from_those_that_trained_alike() -> None:
    assert [(tool, name) for tool, name, _ in fastest(SIDES, compare(RUNS, "weitiao"))] == [("peer", "fast")]


def test_the_page_says_what_is_not_compared() -> None:
    about = {
        "rows": 8,
        "epochs": 1,
        "steps": 2,
        "tokens": 80,
        "trained_tokens": 40,
        "shortest": 5,
        "longest": 15,
        "begin_alike": 4,
        "different_tokens": 60.0,
    }
    report = {
        "date": "today",
        "machine": "a machine",
        "threads": 2,
        "repeats": 2,
        "command": "x",
        "environments": {"weitiao": "1"},
        "about": about,
        "says": {"other": "it is other"},
        "sides": compare(RUNS, "weitiao"),
        "fastest": {"peer": "fast"},
    }
    lines = section("alpaca", report).splitlines()
    (other,) = (line for line in lines if line.startswith("| other"))
    (fast,) = (line for line in lines if line.startswith("| fast"))
    (broken,) = (line for line in lines if line.startswith("| broken"))
    assert other.count("not compared") == 3 and "its first loss differs by 1.0e-03" in other
    assert "2.50x (2.00 to 3.00)" in fast
    assert "failed" in broken
    columns = next(line for line in lines if line.startswith("| side")).count("|")
    assert {line.count("|") for line in lines if line.startswith("|")} == {columns}


def test_a_section_takes_the_place_of_the_one_of_its_name(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    for text in ("## One\n\nfirst\n", "## Two\n\nsecond\n", "## One\n\nthird\n"):
        put_section(page, text)
    assert page.read_text(encoding="utf-8") == "# Benchmark results\n\n## One\n\nthird\n\n## Two\n\nsecond\n"
