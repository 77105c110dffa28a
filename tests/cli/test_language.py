"""Everything the command line shows is in the language that --lang, WEITIAO_LANG or the locale choose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from weitiao.cli import run
from weitiao.cli._commands import FILES, commands
from weitiao.cli._language import language_named
from weitiao.cli._wrap_text import hanging, wrap
from weitiao.core.locale.catalogue import chinese_catalogue
from weitiao.core.registry import Registry
from weitiao.core.visible import columns_of
from weitiao.methods import METHODS
from weitiao.models.known import known_models
from weitiao.objectives import OBJECTIVES

ENGLISH = re.compile(r"(?<![\w`/.=<-])[a-z]{2,} [a-z]{2,} [a-z]{2,}")
"""Three English words in a row: a sentence that was not translated."""
NOT_SENTENCES = re.compile(r"^.*(weitiao |│|  \| |eval ).*$|`[^`]*`|\"[^\"]*\"", re.MULTILINE)
"""Commands, drawings, a template's example and quotations."""


def shown_by(*words: str, columns: str = "100") -> str:
    """Return what a command line prints in Chinese."""
    result = CliRunner(env={"COLUMNS": columns}).invoke(
        commands, ["--lang", "zh", *words], prog_name="weitiao"
    )
    assert result.exit_code == 0, result.output
    return result.output


def english_in(text: str) -> list[str]:
    """Return what is left of English sentences."""
    return ENGLISH.findall(NOT_SENTENCES.sub("", text))


def in_chinese(registry: Registry[Any]) -> list[str]:
    """Return the components whose Chinese is in the catalogue; a new one may come without."""
    return [name for name in registry.names() if chinese_catalogue().has(registry.summary(name))]


COMPLETE = all(in_chinese(registry) == registry.names() for registry in (FILES, METHODS, OBJECTIVES))
"""Whether every component that listings name has its Chinese."""

OF_A_LATER_KIND = next(model.alias for model in known_models().values() if model.kind != "causal")
"""A model of which all is shown that is known without its files, and no more."""


@pytest.mark.parametrize("words", [*([name] for name in in_chinese(FILES)), ("models", "convert")])
def test_help_is_in_chinese(words: tuple[str, ...]) -> None:
    text = shown_by(*words, "--help")
    assert english_in(text) == []
    assert "用法：" in text and "选项" in text


@pytest.mark.skipif(not COMPLETE, reason="some components have no Chinese yet: make docs-check names them")
@pytest.mark.parametrize(
    "words", [("--help",), ("methods",), ("settings",), ("models",), ("models", OF_A_LATER_KIND)]
)
def test_listings_are_in_chinese(words: tuple[str, ...]) -> None:
    assert english_in(shown_by(*words)) == []


@pytest.mark.skipif(not COMPLETE, reason="some components have no Chinese yet: make docs-check names them")
def test_a_model_is_shown_in_chinese(tiny_model_folder: Path) -> None:
    text = shown_by("models", str(tiny_model_folder))
    assert english_in(text) == []
    assert "参数量" in text and "占比" in text


@pytest.mark.parametrize("name", in_chinese(METHODS))
def test_every_method_is_explained_in_chinese(name: str) -> None:
    assert english_in(shown_by("methods", name)) == []


def test_the_last_lang_counts_wherever_it_is() -> None:
    assert language_named(["--lang", "en", "train", "x.json", "--lang=zh"]) == "zh"
    assert language_named(["train", "--lang"]) is None
    assert language_named(["train", "--lang", "fr"]) is None


def test_an_error_of_the_command_line_is_in_chinese_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--lang", "zh", "--outt", "x"]) == 2
    said = capsys.readouterr().err
    assert "没有选项 --outt" in said and "可试" in said
    assert run(["train", "--outt", "x"]) == 2
    assert "there is no option --outt" in capsys.readouterr().err, "the language is chosen anew by every line"


def test_the_environment_chooses_where_no_flag_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEITIAO_LANG", "zh")
    assert "用法" in CliRunner().invoke(commands, ["--help"]).output
    assert "Usage" in CliRunner().invoke(commands, ["--lang", "en", "--help"]).output


def test_every_command_takes_lang() -> None:
    context = click.Context(commands)
    for name in FILES.names():
        command = commands.get_command(context, name)
        assert command is not None
        inner = command.commands.values() if isinstance(command, click.Group) else [command]
        assert all("--lang" in [spelling for p in one.params for spelling in p.opts] for one in inner), name


def test_text_is_wrapped_by_columns() -> None:
    text = "低秩矩阵的秩：能改变多少个方向；常用 8 到 64。"
    for columns in (10, 20, 33):
        lines = wrap(text, columns)
        assert all(columns_of(line) <= columns for line in lines) and len(lines) > 1
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrap("one two  three", 8) == ["one two", "three"]
    assert hanging("秩：", "低秩矩阵" * 8, 40).split("\n")[1].startswith("    矩")
