"""What `methods`, `models` and `settings` list comes from the components themselves."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from pages import ROOT
from weitiao.cli import run
from weitiao.cli.settings import DOTTED, rows_of_setting
from weitiao.core.settings import description_of
from weitiao.methods import METHODS
from weitiao.methods._peft.any import WHAT_THEY_ARE
from weitiao.models import gguf
from weitiao.models.aliases import ALIASES
from weitiao.objectives import OBJECTIVES
from weitiao.recipe.blocks import BLOCKS, FIXED
from weitiao.recipe.names.table import TABLE
from weitiao.recipe.recipe import read_recipe


def shown_by(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(list(words)) == 0
    return capsys.readouterr().out


def on_one_line(text: str) -> str:
    """Return a text with its line breaks, and the spaces that follow them, as single spaces."""
    return " ".join(text.split())


@pytest.mark.parametrize("columns", [80, 100, 139, 140, 200])
def test_methods_are_one_table(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = shown_by(capsys, "methods")
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    starts = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert sorted(starts) == METHODS.names()
    words = "what is trained" in shown
    assert words is (columns >= 140)
    for name in METHODS.names():
        method = METHODS.load(name)
        row = next(line for line in lines if line.startswith(f"  {name} "))
        assert ("yes" if method.merges else "no") in row.split()
        assert method.share.split(",")[0].split("(")[0].strip() in row
        assert method.paper.removeprefix("https://") in shown


@pytest.mark.parametrize("columns", [30, 80])
def test_a_narrow_list_says_it_all(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = on_one_line(shown_by(capsys, "methods"))
    for name in METHODS.names():
        method = METHODS.load(name)
        assert f"Trains {method.trains}. {method.when} {method.paper.removeprefix('https://')}" in shown


def test_a_list_is_coloured_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in shown_by(capsys, "methods")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1m  lora" in shown_by(capsys, "methods")


@pytest.mark.parametrize("name", METHODS.names())
def test_one_method_is_explained_with_its_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_by(capsys, "methods", name)
    method = METHODS.load(name)
    assert method.drawing in shown
    told = on_one_line(shown)
    facts = (method.formula, method.trains, method.when, method.share, method.inference_cost, method.memory)
    for words in (method.title, method.paper, METHODS.summary(name), *facts):
        assert on_one_line(words) in told, words
    assert all(f"method.{field}" in shown for field in method.model_fields)
    assert max(len(line) for line in shown.splitlines() if not line.startswith("  weitiao ")) <= 80


@pytest.mark.parametrize("name", METHODS.names())
def test_the_runs_an_explanation_shows_are_ones_that_work(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    shown = shown_by(capsys, "methods", name)
    flags, *recipes = (shlex.split(line) for line in shown.splitlines() if line.startswith("  weitiao "))
    typed = dict(zip(flags[2:10:2], flags[3:10:2], strict=True))
    method = METHODS.load(name)
    blocks = {
        "model": {"name": typed["--model"]},
        "data": {"sources": [typed["--data"]]},
        "method": {"name": typed["--method"]},
        "out": typed["--out"],
    }
    assert read_recipe(None, blocks, flags[10:]).method == method(**method.example)
    assert (ROOT / typed["--data"]).is_file()
    assert len(recipes) == (ROOT / "recipes" / f"{name}.yaml").is_file()
    assert [read_recipe(ROOT / recipe[2], {}).method.name for recipe in recipes] == [name] * len(recipes)


def test_a_recipe_is_shown_only_where_it_lies(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "recipes/" not in shown_by(capsys, "methods", "lora")


def test_an_unknown_method_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "lroa"]) == 2
    assert "lora" in capsys.readouterr().err


def test_a_name_known_elsewhere_is_answered_with_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "qlora"]) == 2
    assert "--method lora model.quantization=nf4" in capsys.readouterr().err


def test_one_of_pefts_own_says_what_it_is_and_leaves_merging_open(capsys: pytest.CaptureFixture[str]) -> None:
    name, (_, what) = next(
        (name, said) for name, said in WHAT_THEY_ARE.items() if name not in METHODS.names()
    )
    told = on_one_line(shown_by(capsys, "methods", f"peft:{name}"))
    assert what in told and "merges into the base: depends on PEFT" in told


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("prompt_tuning", "method.num_virtual_tokens 20"),
        ("prompt_tuning", "method.init vocabulary"),
        ("freeze", "method.last_n 2"),
        ("lora", "method.layers_to_transform (all)"),
    ],
)
def test_a_default_that_is_computed_is_shown(name: str, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert row in on_one_line(shown_by(capsys, "methods", name))


def test_settings_are_listed_by_block(capsys: pytest.CaptureFixture[str]) -> None:
    everything = shown_by(capsys, "settings")
    for key in ("model.name", "data.max_length", "train.lr", "evaluate.generation.temperature", "track."):
        assert key in everything
    train = shown_by(capsys, "settings", "train")
    assert "train.batch_size" in train and "model.name" not in train
    said = " ".join(train.split())
    assert "One of" in said and all(choice in said for choice in ("auto, off.", "cosine_with_restarts"))


def test_settings_list_the_objectives_among_the_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    everything, own = shown_by(capsys, "settings"), shown_by(capsys, "settings", "Objective")
    for name in OBJECTIVES.names():
        for shown in (everything, own):
            assert f"objective={name}" in shown and on_one_line(OBJECTIVES.summary(name)) in on_one_line(
                shown
            )
        if not OBJECTIVES.load(name).model_fields:
            assert shown_by(capsys, "settings", name) == f"{name} has no settings\n"
    assert "train.lr" in everything and "train.lr" not in own
    helped = shown_by(capsys, "settings", "--help")
    assert all(f"{name}" in helped for name, block in BLOCKS.items() if block.cls)


@pytest.mark.parametrize("name", ALIASES)
def test_models_say_whether_they_can_be_used_at_once(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WEITIAO_HOME", str(tmp_path))
    assert "installed; prepared on" in shown_by(capsys, "models")
    gguf.folder_of(ALIASES[name].path).mkdir(parents=True)
    shown = shown_by(capsys, "models")
    assert "ready" in shown and name in shown and "owner/name" in shown


def test_square_brackets_of_a_description_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "weitiao[trackio]" in shown_by(capsys, "settings", "track")


@pytest.mark.parametrize("typed", ["LoRA", "LORA", "Prompt-Tuning", "p tuning v2"])
def test_a_method_is_explained_however_its_name_is_written(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, name = shown_by(capsys, "methods", typed), METHODS.spelling(typed)
    assert name is not None
    assert shown == shown_by(capsys, "methods", name)


def test_every_name_of_another_tool_has_what_its_setting_does() -> None:
    blocks = ("model.", "data.", "train.", "method.", "evaluate.", "track.")
    named = [one for one in TABLE if one.becomes.startswith(blocks) and one.becomes != "method.name"]
    assert len(named) > 100
    bare = [one.name for one in named if not any(map(rows_of_setting, DOTTED.findall(one.becomes)))]
    assert bare == []


@pytest.mark.parametrize("name", ["r", "method.r", "lora_rank", "METHOD.R"])
def test_a_methods_setting_is_shown_for_each_method_the_default_one_first(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = on_one_line(shown_by(capsys, "settings", name))
    field = METHODS.load("lora").model_fields["r"]
    assert on_one_line(description_of(field)) in shown
    assert shown.index("(lora)") < shown.index("(delora)")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("tran.lr", ["train.lr"]),
        ("model.lr", ["train.lr"]),
        ("evaluate.temperature", ["evaluate.generation.temperature"]),
        ("run.name", ["model.name", "track.name"]),
    ],
)
def test_a_setting_named_under_another_block_says_what_it_was_read_as(
    typed: str, meant: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    told, *table = shown_by(capsys, "settings", typed).splitlines()
    assert told == f"{typed}, read as {' and '.join(meant)}"
    assert all(any(line.startswith(f"{name} ") for line in table) for name in meant)
    chinese = shown_by(capsys, "settings", typed, "--lang", "zh").splitlines()[0]
    assert chinese == f"{typed}，读作 {' 和 '.join(meant)}"


@pytest.mark.parametrize("typed", [str.lower, str.upper])
@pytest.mark.parametrize("path", FIXED)
def test_a_setting_under_its_own_block_is_shown_without_a_word(
    path: str, typed: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in FIXED[path].model_fields:
        shown = shown_by(capsys, "settings", typed(f"{path}.{name}"))
        assert "read as" not in shown
        assert all(line.startswith((f"{path}.{name}", " ")) for line in shown.splitlines()[2:])


def test_a_setting_of_a_block_within_a_block_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "How many general rows" in shown_by(capsys, "settings", "data.replay.share")


@pytest.mark.parametrize("name", ["data.r", "method.lr", "lr.train", "nothing"])
def test_a_setting_of_no_such_block_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings", name]) == 2
    assert f"there is no setting called {name!r}" in capsys.readouterr().err
