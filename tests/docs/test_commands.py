"""Every command line the documentation shows is one that weitiao, make or pip would take; nothing is trained."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import click
import pytest
from packaging.requirements import Requirement

from pages import ROOT, page, pages
from weitiao.cli._commands import commands
from weitiao.cli._options import given
from weitiao.cli._words import sort_words
from weitiao.cli.check import read_settings
from weitiao.core.errors import SettingsError
from weitiao.core.settings import parse_settings
from weitiao.evaluation.settings import GenerationSettings
from weitiao.methods import METHODS
from weitiao.models.aliases import ALIASES
from weitiao.recipe.names.table import entries
from weitiao.recipe.recipe import Recipe, read_recipe

NEEDED = {"model": {"name": "smollm2-135m"}, "data": {"sources": ["my.json"]}, "out": "runs/x"}
MADE_HERE = ("examples/", "recipes/")
"""Folders of the repository: what a command names in them must be there."""


def shown(program: str) -> list[tuple[str, str]]:
    """Return (page, command line) of every line that calls a program."""
    return [(one.name, line) for one in pages() for line in one.commands() if shlex.split(line)[0] == program]


def check(words: Sequence[str]) -> None:
    """Parse a command line as `weitiao` does, and check names and settings; raises click's or SettingsError."""
    name, *rest = words
    context = click.Context(commands, info_name="weitiao", **commands.context_settings)
    _, command, _ = commands.resolve_command(context, [name])
    assert command is not None
    with command.make_context(name, list(rest), parent=context) as parsed:
        _check_values(name, parsed.params)
    missing = [
        w for w in words for part in w.split("=") if part.startswith(MADE_HERE) and not (ROOT / part).exists()
    ]
    assert missing == []


def _check_values(name: str, values: dict[str, object]) -> None:
    typed = given(values)
    if name == "train":
        _recipe_of(typed)
    elif name == "chat":
        parse_settings(
            GenerationSettings, {k: v for k, v in typed.items() if k in GenerationSettings.model_fields}
        )
    elif name == "check":
        read_settings([str(word) for word in typed["words"]], None)  # type: ignore[attr-defined]
    elif name == "methods" and "name" in typed:
        METHODS.path(str(typed["name"]))
    elif name == "settings" and "name" in typed:
        asked = str(typed["name"])
        assert asked in Recipe.model_fields or METHODS.spelling(asked) or entries(asked) or asked == "NAME"


def _recipe_of(typed: dict[str, object]) -> Recipe:
    """Build what the words and flags of `weitiao train` mean; a run's own file is stood in for."""
    sorted_out = sort_words([str(word) for word in typed.get("words", ())])  # type: ignore[attr-defined]
    words, file = list(sorted_out.settings), sorted_out.run_file
    needed = {
        "model": typed.get("model"),
        "data": typed.get("data") or sorted_out.data,
        "out": typed.get("out"),
    }
    if file is None and "resume" not in typed:
        assert all(needed.values()), f"a run needs {', '.join(needed)}"
    blocks = {**NEEDED, **({"method": {"name": typed["method"]}} if "method" in typed else {})}
    known = ROOT / file if file and str(file).startswith(MADE_HERE) else None
    return read_recipe(known, {k: v for k, v in blocks.items() if known is None or k == "method"}, words)


@pytest.mark.parametrize(("name", "line"), shown("weitiao"))
def test_a_shown_command_can_be_typed(name: str, line: str) -> None:
    check(shlex.split(line)[1:])


@pytest.mark.parametrize(("name", "line"), shown("make"))
def test_a_shown_target_is_in_the_makefile(name: str, line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in line.split()[1:]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(("name", "line"), shown("pip"))
def test_what_pip_is_told_exists(name: str, line: str) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for word in shlex.split(line)[2:]:
        extras = re.fullmatch(r"\.\[(\w+)\]", word)
        if extras:
            assert f"\n{extras[1]} = [" in project
        elif not word.startswith(("-", ".")):
            assert Requirement(word) and word in pinned


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_the_readme_opens_with_the_two_commands_and_how_to_do_without_make(readme: str) -> None:
    first, second, *rest = page(readme).commands()
    assert (first, second) == ("make demo", "make test")
    assert rest[:3] == ["pip install .", ALIASES["smollm2-135m"].install, "weitiao demo"]


@pytest.mark.parametrize(
    "line",
    [
        "tran --model M",
        "train --modle M",
        "train --model M --data D --out R train.leraning_rate=1",
        "train --data D --out R train.lr=1",
        "train recipes/no-such.yaml",
        "train recipes/lora.yaml method.last_n=2",
        "chat RUN --top-p 0.5",
        "merge RUN",
        "methods lroa",
        "check my.json data.max_lenght=8",
        "check my.json dta.max_length=8",
    ],
)
def test_the_check_sees_a_planted_fault(line: str) -> None:
    with pytest.raises((SettingsError, click.ClickException, AssertionError)):
        check(shlex.split(line))
