"""SIGTERM outside the steps ends a run as Ctrl-C does: nothing of a run that was never saved stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from weitiao.core.errors import Problem, Stopped, Terminated
from weitiao.engine.runtime.signals import sigterm_as_ctrl_c, watch_signals
from weitiao.recipe.baseline import Comparison
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import resume_run, train_recipe

KILLED_WHILE_FILLING = """
import os, signal, sys
from pathlib import Path
from weitiao.core.errors import Terminated
from weitiao.engine.memory import frozen_cache
from weitiao.core.settings import read_yaml
from weitiao.recipe.recipe import parse_recipe
from weitiao.recipe.train import train_recipe

frozen_cache.SECONDS_BETWEEN_REPORTS = 0.0
recipe = parse_recipe(read_yaml(Path(sys.argv[1])))

def kill(event):
    # Where the machine is busy, reading the data tells of itself too, before there is a folder.
    if event["event"] == "progress" and event.get("unit") != "rows read":
        print(sorted(path.name for path in recipe.out.iterdir()), flush=True)
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))

try:
    train_recipe(recipe, [kill])
except Terminated as stopped:
    print(stopped)
    sys.exit(stopped.exit_code)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Two epochs above frozen blocks, whose cache is filled first."""
    return {
        **recipe,
        "method": {"name": "freeze", "last_n": 1},
        "train": {"epochs": 2, "batch_size": 3},
    }


@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", 143), pytest.param("SIGINT", 130, marks=pytest.mark.slow)]
)
def test_while_the_frozen_cache_is_filled(
    name: str, code: int, recipe: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = [sys.executable, "-c", KILLED_WHILE_FILLING, str(tmp_path / "run.yaml"), name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    assert "frozen_states.bin" in done.stdout
    assert ("SIGTERM stopped the run" in done.stdout) == (name == "SIGTERM")
    assert not (tmp_path / "run").exists()
    if name == "SIGTERM":
        train_recipe(parse_recipe(recipe))  # the folder is not in use


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated], ids=["Ctrl-C", "SIGTERM"])
def test_while_the_answers_are_asked_for(
    stop: type[BaseException], recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise Terminated(Problem("SIGTERM")) if stop is Terminated else KeyboardInterrupt

    monkeypatch.setattr(Comparison, "look_after", stopped)
    with pytest.raises(Stopped, match=r"what it trained is saved(.|\n)*--resume") as caught:
        train_recipe(parse_recipe(recipe))
    assert isinstance(caught.value, stop)
    monkeypatch.undo()
    run = Path(recipe["out"])
    assert not (run / "report.md").exists()
    resume_run(run)
    assert (run / "report.md").is_file()


STOPPED_AT_THE_END = """
import os, signal, sys
from weitiao import cli
from weitiao.cli import _console
from weitiao.core.events import EventLog

moment, number = sys.argv.pop(), getattr(signal, sys.argv.pop())

def stop():
    os.kill(os.getpid(), number)

class Stopping(_console.RunConsole):
    def __call__(self, event):
        super().__call__(event)
        if event["event"] == moment:
            stop()

class Log(EventLog):
    def close(self):
        super().close()
        if moment == "closed":
            stop()

_console.RunConsole = Stopping
import weitiao.recipe.train as train
train.EventLog = Log
cli.main()
"""
"""The command line, sent a signal at an event or when the events' file is closed."""


@pytest.mark.parametrize(
    ("name", "code", "moment"),
    [
        pytest.param("SIGTERM", 143, "finished", marks=pytest.mark.slow),
        ("SIGINT", 130, "closed"),
        pytest.param("SIGINT", 130, "verdict", marks=pytest.mark.slow),
    ],
)
def test_when_everything_is_written(
    moment: str, name: str, code: int, recipe: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = [sys.executable, "-c", STOPPED_AT_THE_END, "train", str(tmp_path / "run.yaml"), name, moment]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    said = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM"}[name]
    assert f"{said} came when the run had finished: everything is written" in done.stderr
    assert "--resume" not in done.stderr and "weitiao chat" in done.stderr
    run = Path(recipe["out"])
    assert all((run / path).is_file() for path in ("report.md", "report.zh.md", "loss.svg"))
    assert '"event": "finished"' in (run / "events.jsonl").read_text(encoding="utf-8")


def test_it_unwinds_past_what_catches_errors_and_the_default_comes_back() -> None:
    cleaned_up = []
    with pytest.raises(Stopped) as caught, sigterm_as_ctrl_c():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:  # noqa: BLE001  (as other people's code does)
            raise AssertionError("caught on its way up") from None
        finally:
            cleaned_up.append(True)
    assert cleaned_up
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_one_during_the_steps_ends_at_once() -> None:
    with pytest.raises(Stopped) as caught, sigterm_as_ctrl_c(), watch_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the second SIGTERM was swallowed")
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_program_around_and_other_threads_are_left_alone() -> None:
    def own(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        with sigterm_as_ctrl_c():
            assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    found = []

    def in_a_thread() -> None:
        with sigterm_as_ctrl_c():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert found == [before]
