"""The Python API: what is shown while it works, what a run shows of itself, and that its types are whole."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

import weitiao
from pages import ROOT
from tiny_run import make_run
from weitiao.core.errors import RunFolderError, SettingsError
from weitiao.models.quiet import libraries_quiet
from weitiao.recipe.progress import LiveSteps
from weitiao.recipe.run import Run
from weitiao.recipe.run_html import run_html
from weitiao.recipe.told import Told


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Run:
    rows = [{"instruction": f"What is <{n}>?", "output": f"It is & {n}."} for n in range(10)]
    return weitiao.train(
        model=str(tiny_model_folder),
        data=rows,
        held_out=2,
        steps=3,
        r=4,
        question_count=1,
        out=tmp_path_factory.mktemp("python") / "run",
        evaluate={"generation": {"max_new_tokens": 2}},
        quiet=True,
    )


def test_a_runs_line_says_what_came_of_it(finished: Run) -> None:
    text = repr(finished)
    assert text == str(finished) and "\n" not in text
    before, after = (finished.held_out[when]["loss"] for when in ("before", "after"))
    for words in ("LoRA on tiny", "lr 1e-3", "3 steps in 0:0", f"loss {before:.3f} -> {after:.3f}", "run"):
        assert words in text, words
    assert finished.lr == 1e-3
    assert finished.report.startswith("# Fine-tuning report") and finished.folder.report_zh.is_file()


def test_a_notebook_shows_facts_curve_and_answers_and_no_markup_of_a_row(finished: Run) -> None:
    shown = finished._repr_html_()
    root = ElementTree.fromstring(f"<div>{shown}</div>")
    texts = " ".join(root.itertext())
    assert "What is <" in texts and "LoRA on" in texts and "held-out loss" in texts and "[…]" in texts
    assert root.find(".//{http://www.w3.org/2000/svg}polyline") is not None
    assert "max-width: 100%" in shown
    reopened = weitiao.open_run(finished.folder.root)
    assert reopened._repr_html_() == shown and repr(reopened) == repr(finished)


def test_a_run_without_events_is_shown_as_far_as_it_goes(tmp_path: Path, tiny_model_folder: Path) -> None:
    bare = weitiao.open_run(make_run(tmp_path / "bare", tiny_model_folder))
    assert "not finished" in repr(bare) and "not finished" in bare._repr_html_()
    unknown = [{"event": "step", "step": 1, "loss": "nan"}, {"event": "other"}]
    assert "<table" not in run_html("x", unknown) and "<svg" not in run_html("x", unknown)


def test_a_run_merges_itself(finished: Run, tmp_path: Path) -> None:
    merged = finished.merge(tmp_path / "plain", quiet=True)
    assert merged.out == tmp_path / "plain" and (merged.out / "model.safetensors").is_file()
    answer = weitiao.open_model(str(merged.out), quiet=True).generate("Hi", max_new_tokens=4)
    assert answer == finished.generate("Hi", max_new_tokens=4)
    beside = finished.merge(quiet=True)
    assert beside.out == finished.folder.root.with_name("run-merged")
    with pytest.raises(RunFolderError, match="already exists"):
        finished.merge(quiet=True)


def test_any_model_answers_before_any_training(tiny_model_folder: Path, finished: Run) -> None:
    plain = weitiao.open_model(str(tiny_model_folder), quiet=True)
    assert plain.generate("Hi", max_new_tokens=4) == finished.generate("Hi", max_new_tokens=4, before=True)
    assert plain.generate([{"role": "user", "content": "Hi"}], max_new_tokens=4) == plain.generate(
        "Hi", max_new_tokens=4
    )
    several = plain.generate("Hi", max_new_tokens=4, temperature=1.0, num_return_sequences=3)
    assert isinstance(several, list) and len(several) == 3
    assert "parameters)" in repr(plain) and plain.notes == []
    with pytest.raises(SettingsError, match="max_new_tokens"):
        plain.generate("Hi", max_new_token=4)


SCRIPT = """
import sys
import weitiao
rows = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(10)]
base = weitiao.open_model(sys.argv[1], quiet=QUIET)
base.generate("Hi", max_new_tokens=2)
run = weitiao.train(model=sys.argv[1], data=rows, held_out=2, steps=3, out=sys.argv[2], quiet=QUIET)
run.generate("Hi", max_new_tokens=2)
run.merge(quiet=QUIET)
"""


@pytest.mark.parametrize("quiet", [True, False])
def test_a_pipe_gets_plain_lines_and_nothing_of_third_parties(
    tiny_model_folder: Path, tmp_path: Path, quiet: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if "TQDM" not in name}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT.replace("QUIET", str(quiet)),
            str(tiny_model_folder),
            str(tmp_path / "run"),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=280,
        env={**environment, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if quiet:
        assert done.stdout == ""
        return
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
    for words in (
        "learning rate  ",
        "step 3/3",
        "held out       2 examples",
        "finished in 0:",
        "verdict: ",
        "merging ",
    ):
        assert words in done.stdout, words


def test_what_libraries_said_before_they_say_again_afterwards() -> None:
    import warnings

    from transformers.utils import logging as transformers_logging

    before = (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled())
    filters = list(warnings.filters)
    with libraries_quiet():
        assert not transformers_logging.is_progress_bar_enabled()
        with libraries_quiet():
            pass
        assert not transformers_logging.is_progress_bar_enabled()
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before
    assert warnings.filters == filters


def test_on_a_terminal_lines_stand_above_a_bar() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, highlight=False, _environ={})
    steps = LiveSteps(console)
    told = Told(steps, lambda line: console.print(line, soft_wrap=True))
    told({"event": "stage", "text": "loading"})
    told({"event": "data", "lines": ["12 rows"]})
    told({"event": "started", "step": 0, "steps": 4, "out": "runs/mine"})
    numbers = {"loss": 2.0, "tokens_per_second": 9.0, "seconds_left": 3.0, "memory_bytes": 1 << 30}
    told({"event": "step", "step": 2, "steps": 4, **numbers})
    told({"event": "note", "text": "a note"})
    told({"event": "never heard of"})
    steps.stop()
    text = file.getvalue()
    assert "12 rows" in text and "2/4  loss 2.000" in text and "note: a note" in text


USER = """
from pathlib import Path

import weitiao

run: weitiao.Run = weitiao.train(model="m", data=[{"instruction": "a", "output": "b"}], out="r", quiet=True, r=4)
answer: str = run.generate("Hi", max_new_tokens=4).strip()
before: str = run.generate([{"role": "user", "content": "Hi"}], before=True)
many: str | list[str] = run.generate("Hi", num_return_sequences=3)
loss: float = run.held_out["after"]["loss"] + run.losses[0] + run.lr
path: Path = run.merge("merged").out
text: str = run.report + run._repr_html_()
model: weitiao.Model = weitiao.open_model("smollm2-135m")
said: str = model.generate("Hi")
again: weitiao.Run = weitiao.open_run("r")
on: weitiao.Run = weitiao.resume("r", ["train.save_every=1"], quiet=True)
recipe: weitiao.Recipe = again.recipe
weitiao.register()
reveal_type(run.events)
"""


def test_a_strict_type_checker_knows_every_type_a_user_meets(tmp_path: Path) -> None:
    script = tmp_path / "user.py"
    script.write_text(USER, encoding="utf-8")
    wrong = tmp_path / "wrong.py"
    wrong.write_text('import weitiao\n\nx: int = weitiao.open_model("m").generate("Hi")\nweitiao.trian()\n')
    environment: dict[str, Any] = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    arguments = ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--follow-imports=silent"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments, str(script), str(wrong)],
        capture_output=True, text=True, check=False, timeout=280, env=environment, cwd=tmp_path,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if "error" in line and "user.py" in line]
    assert lines == [], done.stdout
    assert (
        "Any"
        not in next(line for line in done.stdout.splitlines() if "Revealed" in line).partition("dict")[0]
    )
    assert done.stdout.count("wrong.py") >= 2, done.stdout


@pytest.mark.parametrize(
    "asked", [None, 5, [], ["a", "b"], [{"role": "user"}], [{"role": "user", "content": 5}]]
)
def test_what_cannot_be_asked_is_refused_in_words(finished: weitiao.Run, asked: Any) -> None:  # noqa: ANN401
    with pytest.raises(SettingsError, match="cannot be asked"):
        finished.generate(asked, max_new_tokens=2)


def test_half_a_surrogate_pair_is_asked_as_a_question_mark(finished: weitiao.Run) -> None:
    assert finished.generate("a\ud800", max_new_tokens=4) == finished.generate("a?", max_new_tokens=4)
