"""The command line itself: quick, helpful when mistyped, with the exit codes it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import weitiao.cli
from weitiao.cli import run
from weitiao.cli._commands import FILES, commands
from weitiao.cli._signals import Signals
from weitiao.core.errors import EXIT_CODES


@pytest.mark.parametrize("name", FILES.names())
def test_every_command_has_a_sentence_and_a_help_page(name: str) -> None:
    assert FILES.summary(name).endswith(".")
    result = CliRunner().invoke(commands, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: commands {name}")


def test_help_lists_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in FILES.names():
        assert f"\n  {name} " in shown
    for code in EXIT_CODES:
        assert f"\n  {code} " in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["weitiao", weitiao.__version__]


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (["trian"], 2, "try       train"),
        (["zzz"], 2, "try       weitiao --help"),
        (["methods", "lroa"], 2, "try       lora"),
        (["methods", "--hlep"], 2, "try       --help"),
        (["settings", "trian"], 2, "try       train"),
        (["merge"], 2, "Missing argument 'RUN'"),
        (["chat", "x", "--temperature", "hot"], 2, "'hot' is not a valid float"),
        (["chat", "x", "--top-p", "0.5"], 2, "need temperature above 0"),
        (["train", "--lr"], 2, "--lr cannot be used like this"),
        (["train", "--lerning-rate", "1e-4"], 2, "try       --learning-rate"),
        (["train", "lora"], 2, "try       --method lora"),
        (["train", "smollm2-135m"], 2, "try       --model smollm2-135m"),
        (["train", "a.yaml", "b.yaml"], 2, "there is more than one run file"),
        (["train", "train.lr="], 2, "train.lr has no value"),
        (["train", "--modle", "x"], 2, "--model"),
        (["train", "no-such.yaml"], 2, "the run file does not exist"),
        (["train", "--resume", "R", "--model", "M"], 2, "--model beside --resume"),
        (["train", "--resume", "no-such-run"], 5, "this folder holds no run"),
        (["merge", "./no-such-run", "OUT"], 5, "nothing to merge"),
        (["chat", "./no-such-run"], 4, "no model at this path"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(
    words: list[str], code: int, shown: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert run(words) == code
    printed = capsys.readouterr()
    assert shown in printed.err
    assert "\x1b" not in printed.err
    assert not list(tmp_path.iterdir())


def test_all_problems_of_a_run_are_told_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--model", "smollm2-135m", "--data", "x.json", "--method", "lora", "--out", str(tmp_path / "r")]
    assert run(["train", *words, "train.lrr=1", "method.rank_of=2"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("2 problems:")
    assert "train.lr" in shown and "method.rank_of" in shown


def test_ctrl_c_ends_in_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "main", interrupted)
    # Its own, as this process goes on after the command: an error that follows within a minute would end it.
    monkeypatch.setattr(weitiao.cli, "SIGNALS", Signals())
    assert run(["methods"]) == 130


@pytest.mark.parametrize("from_torch", [True, False])
def test_want_of_memory_nobody_could_mend_ends_in_6(
    from_torch: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_large(*_: object, **__: object) -> object:
        return torch.empty(1 << 62, dtype=torch.uint8) if from_torch else bytearray(1 << 62)

    monkeypatch.setattr(commands, "main", too_large)
    assert run(["methods"]) == 6
    shown = capsys.readouterr().err
    assert shown.startswith("not enough memory\n")
    assert ("DefaultCPUAllocator" in shown) == from_torch
    assert "--resume RUN" in shown


def test_another_runtime_error_stays_a_fault_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(commands, "main", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(["methods"])


def test_a_fault_of_our_own_shows_its_trace_and_asks_to_be_reported() -> None:
    code = (
        "import sys; from weitiao.cli import _commands, main\n"
        "_commands.commands.main = lambda *a, **k: 1 / 0\n"
        "sys.argv = ['weitiao', 'methods']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert done.stderr.rstrip().endswith("Please report it, with the lines above.")


def test_main_exits_with_the_code_of_the_run() -> None:
    code = "import sys; from weitiao.cli import main; sys.argv = ['weitiao', 'methods', 'lroa']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=240)
    assert done.returncode == 2


LOST_IN_A_DESTRUCTOR = """
import os, signal, sys, time
from weitiao import cli

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass

def run(arguments):
    Dying()
    time.sleep(2)

cli.run = run
sys.argv = ["weitiao"]
cli.main()
"""
SWALLOWED_IN_AN_IMPORT = """
import os, signal, sys
import weitiao.cli as cli
import weitiao.cli._commands as commands
from weitiao.core.errors import ModelError, Problem

def main(*_, **__):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass
    except:
        pass
    raise ModelError(Problem("the library that was being imported is not there"))

commands.commands.main = main
cli.main()
"""


@pytest.mark.parametrize("script", [LOST_IN_A_DESTRUCTOR, SWALLOWED_IN_AN_IMPORT])
def test_a_ctrl_c_that_a_library_loses_ends_the_command_all_the_same(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip() == "stopped by Ctrl-C"
