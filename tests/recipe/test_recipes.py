"""The ready run files: each can be read, says where it writes, and finds its data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from weitiao.data.dataset import check_data
from weitiao.methods import METHODS
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._base import count_parameters
from weitiao.models.load import load_config, load_weightless
from weitiao.recipe.recipe import Recipe, parse_recipe, read_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
BARE = {"model": {"name": "smollm2-135m"}, "data": {"sources": ["examples/tcm_en.json"]}, "out": "runs/x"}
COMMAND = re.compile(r"^#\s+weitiao train (?P<words>.*)$", re.MULTILINE)


def recipe_of(path: Path) -> Recipe:
    """Read a run file as `weitiao train` does."""
    return read_recipe(path, {}, [])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_and_written_back_equal(path: Path) -> None:
    recipe = recipe_of(path)
    assert parse_recipe(recipe.as_dict()) == recipe
    assert recipe.out == Path("runs") / path.stem


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_goes_on_the_bundled_model_by_its_recipe_where_it_has_one(name: str) -> None:
    path = ROOT / "recipes" / f"{name}.yaml"
    bare = {**BARE, "method": {"name": name, **METHODS.load(name).example}}
    recipe = recipe_of(path) if path.exists() else read_recipe(None, bare, [])
    assert recipe.method.name == name
    assert recipe.lr == recipe.method.suggested_lr, "its rate is the method's, which follows the model"
    model = load_weightless(recipe.model)
    require_applicable(recipe.method, model, load_config(recipe.model))
    assert count_parameters(recipe.method.plan(model).model)[0]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_its_data_is_there_and_can_be_trained_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    checked = check_data(recipe_of(path).data)
    assert checked.store.rows
    assert not checked.tally.notes
    assert not checked.tally.unfilled


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_says_how_to_start_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    commands = [found["words"].split() for found in COMMAND.finditer(text)]
    assert commands and all(words[0] == f"recipes/{path.name}" for words in commands)


def test_qlora_is_settings_of_lora() -> None:
    recipe = recipe_of(ROOT / "recipes" / "qlora.yaml")
    assert (recipe.method.name, recipe.model.quantization) == ("lora", "nf4")
    assert recipe.model.double_quantization
    assert recipe.train.optimizer == "paged_adamw_8bit" and recipe.train.gradient_checkpointing
