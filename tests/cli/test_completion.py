"""Shell completion: what Tab offers, and the lines that switch it on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from weitiao.cli import run
from weitiao.cli._commands import FILES, commands
from weitiao.cli._completion import SHELLS
from weitiao.methods import METHODS
from weitiao.models.aliases import ALIASES
from weitiao.objectives import OBJECTIVES
from weitiao.recipe.blocks import BLOCKS


def offered(*words: str) -> list[str]:
    """Return what Tab offers behind the last of the words typed."""
    completion = ShellComplete(commands, {}, "weitiao", "_WEITIAO_COMPLETE")
    return [item.value for item in completion.get_completions(list(words[:-1]), words[-1])]


def test_commands_methods_models_and_settings_are_offered() -> None:
    assert offered("") == FILES.names()
    assert offered("tr") == ["train"]
    assert offered("methods", "") == sorted(METHODS.names())
    assert offered("train", "--method", "lo") == [n for n in sorted(METHODS.names()) if n.startswith("lo")]
    assert offered("train", "--objective", "") == sorted(OBJECTIVES.names())
    assert offered("train", "--model", "smol") == [n for n in sorted(ALIASES) if n.startswith("smol")]
    assert offered("train", "run.yaml", "train.warm") == ["train.warmup_ratio=", "train.warmup_steps="]
    assert offered("settings", "") == sorted(name for name, block in BLOCKS.items() if block.cls)
    assert offered("settings", "tra") == ["track", "train"]
    assert "--resume" in offered("train", "--r")


def test_a_mistyped_command_offers_nothing_and_fails_in_no_way() -> None:
    assert offered("zzz", "--m") == []
    assert offered("train", "--no-such-option", "--mod") in (["--model"], [])


def test_help_has_a_line_for_every_shell_and_each_gives_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-h"]) == 0
    shown = capsys.readouterr().out
    for line, file in SHELLS.values():
        assert f"{line}  # {file}" in shown


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_itself_answers_the_shell(shell: str) -> None:
    asked = {"_WEITIAO_COMPLETE": f"{shell}_complete", "COMP_WORDS": "weitiao tr", "COMP_CWORD": "1"}
    fish = {"COMP_CWORD": "tr"} if shell == "fish" else {}
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv = ['weitiao']; from weitiao.cli import main; main()",
    ]
    for variables, expected in (
        ({"_WEITIAO_COMPLETE": f"{shell}_source"}, "weitiao"),
        ({**asked, **fish}, "train"),
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **variables}
        )
        assert done.returncode == 0 and expected in done.stdout, (done.stdout, done.stderr)
