"""What a run from Python shows is there in Chinese: events are English, and are translated where they are shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from left_in_english import english_in
from report_facts import CHOSEN
from weitiao.core.locale import use_language
from weitiao.recipe.progress import PlainSteps
from weitiao.recipe.run_html import run_html
from weitiao.recipe.told import Told

SCORES = {"loss": 1.5, "perplexity": 4.48}
STEP = {
    "loss": 2.5, "tokens_per_second": 812.0, "seconds_left": 41.0, "memory_bytes": 2 << 30, "gpu_memory_bytes": 1 << 30,
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {"event": "stage", "text": "checking the settings, reading and tokenising the data"},
    {"event": "progress", "done": 3000, "total": None, "unit": "rows read"},
    {"event": "chosen", **CHOSEN.as_fields()},
    {"event": "stage", "text": "loading smollm2-135m"},
    {"event": "stage", "text": "asking the model general questions, for 24 rows of data.replay"},
    {"event": "note", "text": "data.replay: asked 31, used 24 (4 cut, 3 unsure)"},
    {"event": "note", "text": "not enough memory to evaluate the held-out loss; training continues"},
    {"event": "note", "text": "no checkpoint is complete, so the run starts from the beginning"},
    {"event": "stage", "text": "measuring and asking the model before training"},
    {"event": "progress", "done": 1, "total": 3, "seconds_left": 3.0, "what": "held-out loss before training"},
    {"event": "before", "held_out": SCORES},
    {"event": "started", "step": 0, "steps": 40, "out": "runs/mine"},
    {"event": "resumed", "step": 20},
    {"event": "step", "step": 40, "steps": 40, **STEP},
    {"event": "evaluated", "step": 40, **SCORES},
    {
        "event": "verdict", "kind": "learnt", "because": "the held-out loss fell, by more than chance explains",
        "change": {"change": -0.531, "low": -0.571, "high": -0.49}, "rows": 6, "answers_changed": 2, "answers": 2,
        "general": [12, 14], "lost": [], "cautions": [], "advice": [{"word": "train.steps=4", "why": "more steps"}],
    },
    {
        "event": "answers",
        "rows": [{
            "question": "你是谁？", "before": "我是模型。", "after": "我是小微。", "reference": "", "after_cut": True,
            "earlier_turns": 1, "earlier": ["你好"],
        }],
    },
    {
        "event": "finished", "out": "runs/mine", "seconds": 75.0, "whole_seconds": 125.0, "step": 20, "steps": 40,
        "peak_memory_bytes": 2 << 30, "held_out": {"before": SCORES, "after": SCORES},
    },
]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_chinese() -> Iterator[None]:
    with use_language("zh"):
        yield


def test_no_line_of_a_run_from_python_is_english() -> None:
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=False)
    told = Told(PlainSteps(console), lambda line: console.print(line, soft_wrap=True))
    for event in EVENTS:
        told({"time": 0.0, **event})
    lines = file.getvalue().splitlines()
    assert [left for line in lines for left in english_in(line)] == []
    assert [line for line in lines if line.isascii()] == []
    for words in (
        "正在加载 smollm2-135m ...",
        "方法    LoRA：q_proj, v_proj（60 个模块）",
        "学习率  2e-4, cosine，前 4 步预热",
        "提示：data.replay：问了 31 个，用 24 个（4 个被截断，3 个没有把握）",
        "训练前：留出损失 1.500",
        "从第 20 步继续",
        "步 40/40  损失 2.500  812 词元/秒  剩余 0:41",
        "结论：学到了",
        "下次试试 train.steps=4：训练更久",
        "完成，用时 2:05（训练 1:15），计划 40 步，第 20 步提前停止，内存最多 2.0 GiB：runs/mine",
    ):
        assert any(words in line for line in lines), (words, lines)


def test_no_part_of_a_notebooks_result_is_english() -> None:
    html = run_html("Run('runs/mine')", [{"time": 0.0, **event} for event in EVENTS])
    shown = html.replace("</", " · </").replace("<", "\n<").replace(">", ">\n")
    texts = [line for line in shown.splitlines() if line and not line.startswith("<")]
    assert [left for text in texts for left in english_in(text)] == []
    assert "学到了" in html and "被截断" in html and "此前 1 轮：“你好”" in html
