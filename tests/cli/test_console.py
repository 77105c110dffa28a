"""What a run shows: plain where it is piped, within the terminal's width where it is not."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from weitiao.cli._console import run_console
from weitiao.cli._print_problems import problem_text
from weitiao.core.errors import Problem
from weitiao.evaluation.answer_scores import AnswerScore
from weitiao.evaluation.metrics import METRICS
from weitiao.recipe import progress

ROWS = [
    {
        "question": "你是谁？",
        "reference": "我是小微，由某人训练。",
        "before": "I am an [bold]AI[/bold] assistant named SmolLM. " * 3,
        "after": "我是小微，一个在笔记本电脑上训练出来的小模型，很高兴认识你。" * 2,
    },
    {"question": "?", "reference": "", "before": "", "after": "x" * 200},
]


def step(number: int) -> dict[str, Any]:
    return {
        "event": "step", "step": number, "steps": 40, "loss": 2.5, "lr": 2e-4, "grad_norm": 1.0,
        "tokens_per_second": 812.3, "seconds_left": 41.0, "memory_bytes": 2 << 30, "cpu_percent": 190.0,
        "gpu_memory_bytes": None, "gpu_percent": None,
    }  # fmt: skip


EVENTS: list[dict[str, Any]] = [
    {"event": "data", "summary": {}, "lines": ["120 rows", "of [x] tokens"]},
    {"event": "parameters", "trainable": 460_800, "all": 134_975_808},
    {
        "event": "chosen", "method": "LoRA", "lr": 1e-3, "scheduler": "cosine", "warmup_steps": 3, "epochs": 2.8,
        "targets": [", ".join(f"{name}_proj" for name in ("q", "k", "o", "gate", "up", "down")) + " (180 modules)", ""],
        "steps": 40, "batch_size": 8, "examples": 114, "held_out": 6,
    },
    {"event": "stage", "text": "computing it once"},
    *({"event": "progress", "done": n, "total": 9, "seconds_left": 9.0 - n} for n in range(3, 9, 3)),
    {"event": "started", "steps": 40, "step": 0, "out": "runs/mine"},
    *map(step, range(1, 40)),
    {"event": "evaluated", "step": 40, "loss": 1.5, "perplexity": 4.48},
    step(40),
    {"event": "checkpoint", "step": 40, "path": "runs/mine/checkpoints/step-40"},
    {"event": "resumed", "step": 20},
    {"event": "note", "text": "a [note]"},
    {"event": "never heard of", "what": 1},
    {"event": "stage", "text": "asking [it]"},
    {"event": "answers", "rows": ROWS},
    {
        "event": "finished", "out": "runs/mine", "adapter": "runs/mine/adapter", "seconds": 75.0,
        "held_out": {"before": {"loss": 3.0, "perplexity": 20.09}, "after": {"loss": 1.5, "perplexity": 4.48}},
        "peak_memory_bytes": 2 << 30,
    },
]  # fmt: skip


STARTED = next(event for event in EVENTS if event["event"] == "started")


def shown(events: list[dict[str, Any]], *, width: int = 80, terminal: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, highlight=False, _environ={})
    with run_console(console) as listener:
        for event in events:
            listener({"time": 0.0, **event})
    return file.getvalue()


def test_piped_output_has_no_control_codes_and_few_lines() -> None:
    text = shown(EVENTS)
    assert "\x1b" not in text and "\r" not in text
    assert "33%  0:06 left" in text
    progress = [line for line in text.splitlines() if line.startswith("step ") and "/40" in line]
    assert [line.split()[1] for line in progress] == ["1/40", "40/40"]
    assert progress[0] == "step 1/40  loss 2.500  812 tok/s  0:41 left  2.0 GiB"


def test_progress_lines_come_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    lines = [line for line in shown([STARTED, *map(step, range(1, 21))]).splitlines() if "/40" in line]
    assert [line.split()[1] for line in lines] == ["1/40", "6/40", "11/40", "16/40"]


@pytest.mark.parametrize("width", [80, 120])
def test_everything_fits_the_width(width: int) -> None:
    text = shown(EVENTS, width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    for words in (
        "460,800 / 134,975,808 / 0.341%", "of [x] tokens", "a [note]", "asking [it] ...",
        "-50%", "weitiao chat runs/mine",
        "weitiao merge runs/mine runs/mine-merged", "runs/mine/adapter", "? 你是谁？", "[bold]AI[/bold]", "(nothing)",
        "1e-3, cosine, warm-up over 3 steps", "40 steps of 8 examples, 2.8 epochs of 114 examples", "6 examples",
        "down_proj", "held-out loss 1.500, perplexity 4.48", "continuing from step 20",
    ):  # fmt: skip
        assert words in text, words
    assert ("the data's answer: 我是小微，由某人训练。" in text) == (width == 80)
    assert ("┃ the data's answer" in text) == (width == 120)


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_a_bar_that_fits(width: int) -> None:
    text = shown(EVENTS, width=width, terminal=True)
    assert "\x1b" in text
    assert "67%  0:03 left" in text
    assert "40/40" in text and "812 tok/s" in text and "0:41 left" in text


def test_on_a_terminal_what_goes_on_is_seen_and_leaves_nothing_behind() -> None:
    stage, counted = (
        {"event": "stage", "text": "tokenising"},
        {"event": "progress", "done": 12_000, "total": None},
    )
    text = shown([stage, {**counted, "unit": "rows read"}], terminal=True)
    assert "tokenising ..." in text and "0:00:00" in text and "12,000 rows read" in text
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    assert any(line.startswith("tokenising ") and "12,000 rows read" in line for line in lines)
    assert text.rindex("\x1b[2K") > text.rindex("12,000 rows read"), "the bar is taken away at the end"
    look = {"event": "progress", "done": 3, "total": 9, "seconds_left": 4.0}
    text = shown([STARTED, step(1), look, {**look, "done": 9}, step(40)], terminal=True)
    assert "33%  0:04 left" in text and "40/40" in text.rpartition("33%  0:04 left")[2]


def test_on_a_terminal_sentences_wrap_between_words_and_under_their_text() -> None:
    sentence = "answers repeat one phrase over and over (1 row: my.json:8): leave these rows out of the data"
    data = {"event": "data", "lines": ["rows       12 read", f"warning    {sentence}"]}
    lines = re.sub(
        r"\x1b\[[0-9;]*m", "", shown([data, {"event": "note", "text": sentence}], terminal=True)
    ).splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("warning    answers"))
    assert lines[first + 1].startswith(" " * 11 + "leave") or lines[first + 1].startswith(" " * 11)
    assert " ".join(" ".join(lines[first : first + 2]).split()) == f"warning {sentence}"
    assert max(map(cell_len, lines)) <= 80
    assert f"warning    {sentence}" in shown([data]), "a pipe gets it in a line"


def test_stopping_early_is_said_where_the_run_is_done() -> None:
    finished = EVENTS[-1]
    assert "stopped early after 20 of 40 steps" in shown([{**finished, "step": 20, "steps": 40}])
    assert "stopped" not in shown([finished]) + shown([{**finished, "step": 40, "steps": 40}])


def test_an_answer_that_was_cut_is_marked() -> None:
    text = shown([{"event": "answers", "rows": [{**ROWS[0], "before_cut": True, "after_cut": False}]}])
    assert text.count("[…]") == 2 and "max_new_tokens" in text
    assert "[…]" not in shown([{"event": "answers", "rows": ROWS}])


def test_what_every_metric_found_stands_below_the_answers() -> None:
    scores = [AnswerScore(name, 0.0, 0.375).as_fields() for name in METRICS.names()]
    text = shown([{"event": "answers", "rows": ROWS, "scores": scores}], width=120)
    for name in METRICS.names():
        (line,) = [one for one in text.splitlines() if METRICS.load(name).title in one]
        assert line.split("better)")[1].replace("│", " ").split() == ["0%", "37.5%"]
    assert text.index("xxxx") < text.index("37.5%")


@pytest.mark.parametrize("width", [80, 120])
def test_what_was_said_before_a_question_stands_above_it_in_one_line(width: int) -> None:
    plain = shown([{"event": "answers", "rows": ROWS}], width=width)
    earlier = {"earlier_turns": 4, "earlier": ["[bold]When? " * 5, "At nine, 每天九点。" * 3]}
    text = shown([{"event": "answers", "rows": [{**ROWS[0], **earlier}, *ROWS[1:]]}], width=width)
    assert len(text.splitlines()) == len(plain.splitlines()) + 1
    (line,) = [one for one in text.splitlines() if "after 4 turns: … → “[bold]When?" in one]
    assert cell_len(line) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_a_datas_answer_that_was_cut_is_marked(width: int) -> None:
    text = shown([{"event": "answers", "rows": [{**ROWS[0], "reference_cut": True}]}], width=width)
    assert text.count("[…]") == 2 and "max_new_tokens" in text


def test_the_whole_time_is_said_and_what_of_it_was_training() -> None:
    finished = EVENTS[-1]
    assert "finished in 1:15, at most" in shown([finished])
    assert "finished in 1:17, at most" in shown([{**finished, "whole_seconds": 77.0}])
    assert "finished in 2:05 (training 1:15), at most" in shown([{**finished, "whole_seconds": 125.0}])
    short = {**finished, "seconds": 3.0, "whole_seconds": 10.0}
    assert "finished in 0:10 (training 0:03)" in shown([short])


def test_a_loss_that_is_not_finite_is_shown_by_its_name() -> None:
    assert "loss nan" in shown([STARTED, {**step(1), "loss": float("nan")}])
    assert "loss nan" in shown([STARTED, {**step(1), "loss": "nan"}])


def test_the_terminal_is_given_back_when_a_run_fails() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, _environ={})
    with pytest.raises(ZeroDivisionError), run_console(console) as listener:
        listener(STARTED)
        listener(step(1))
        raise ZeroDivisionError
    shown_last = file.getvalue()
    assert shown_last.rindex("\x1b[?25h") > shown_last.rindex("\x1b[?25l"), "the cursor must be visible again"


def test_without_held_out_rows_there_is_no_such_table() -> None:
    assert "held-out" not in shown([{**EVENTS[-1], "held_out": {}}])


SAID = {
    "verdict": {
        "event": "verdict", "kind": "learnt", "because": "the held-out loss fell, by more than chance explains",
        "change": {"change": -0.531, "low": -0.571, "high": -0.49}, "rows": 6, "answers_changed": 2, "answers": 2,
        "general": [12, 14], "lost": ["What is the capital of France?", "How many legs has a spider?"],
        "cautions": ["only 6 rows are held out: differences below 0.04 mean nothing, other rows may differ more"],
        "advice": [{"word": "train.steps=4", "why": "the loss was still falling at the end of the training"}],
    },
    "choices": {
        "event": "choices",
        "rows": [{
            "setting": "train.early_stopping_patience", "value": 2,
            "reason": "stops after 2 looks without a gain, at the end of each epoch; the best weights are kept",
        }],
    },
    "note": {"event": "note", "text": "the adapter was trained on a model whose weights were converted since " * 2},
}  # fmt: skip
"""What a run says in sentences."""


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", SAID)
def test_sentences_are_broken_between_words_on_a_terminal_and_whole_in_a_pipe(kind: str, width: int) -> None:
    events = [SAID[kind], EVENTS[-1]]
    whole = shown(events)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(events, width=width, terminal=True)).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    words = {word for line in lines for word in line.split()}
    assert [word for word in whole.split() if word not in words and not set("━─┏┃│") & set(word)] == []
    assert any(cell_len(line) > 80 for line in whole.splitlines())


@pytest.mark.parametrize("width", [40, 80])
def test_a_problems_sentences_are_broken_between_words_and_what_is_typed_is_whole(width: int) -> None:
    problem = Problem(
        "the model that this adapter was trained on lies in no place that is known here, and no hub has it",
        "runs/" + "mine/" * 30,
        "a local folder, a .gguf file, a hub id such as owner/name, or an alias such as smollm2-135m",
        "weitiao chat " + "runs/mine " * 12,
    )
    text = str(problem_text(problem, width))
    what, given, typed = str(problem).split("\n")[0], problem.got, problem.remedy
    assert f"  got       {given}" in text and f"  try       {typed}" in text
    sentences = [line for line in text.splitlines() if given not in line and typed not in line]
    assert max(map(len, sentences)) <= width
    assert " ".join(" ".join(sentences).split()) == " ".join(f"{what} expected {problem.expected}".split())
    assert str(problem_text(problem, None)) == str(problem)
