"""The commonest problems of data, and the details behind places, are said in Chinese."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from weitiao.data.report.problem_phrases import PATTERNS, detail_zh, place_zh, problem_zh

from weitiao.core.errors import Problem
from weitiao.data.gate.gate import open_data
from weitiao.data.settings import DataSettings

HAN = re.compile("[\u4e00-\u9fff]")


def test_every_pattern_keeps_what_differs() -> None:
    for english, chinese in PATTERNS.items():
        assert english.count("{}") == chinese.count("{}") and HAN.search(chinese), english
        made = problem_zh(Problem(english.replace("{}", "'x'")))
        assert HAN.search(made.what), english


@pytest.mark.parametrize(
    "text",
    [
        '{"a b": "c d", "e f": "g h"}',
        '{"instruction": "q", "output": "a"}',
        "<html><body>no</body></html>",
        "",
    ],
)
def test_what_keeps_a_file_from_being_read_is_said_in_chinese(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    (problem,) = open_data(DataSettings(sources=[str(path)], held_out=0)).problems  # type: ignore[arg-type]
    assert HAN.search(problem_zh(problem).what) and str(path) in problem_zh(problem).what


def test_details_are_said_in_chinese_and_names_stay() -> None:
    assert place_zh("turn 2.json:3: turn 2 is user") == "turn 2.json:3: 第 2 轮是 user"
    assert place_zh("a.json:1: 30 rows: See 4 tokens") == "a.json:1: 30 行: See 4 tokens"
    assert (detail_zh("turn 4"), detail_zh("it has 'a'"), detail_zh("4.5")) == ("第 4 轮", "有 'a'", "4.5")
    assert place_zh("a.json:1") == "a.json:1" and problem_zh(Problem("odd", "4")) == Problem("odd", "4")
