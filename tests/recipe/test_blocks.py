"""One table of blocks: what a run file may hold follows from the fields of `Recipe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor

from tiny_objectives import OfSequences, Pairs
from weitiao.core.errors import SettingsError
from weitiao.core.settings import Settings
from weitiao.data.example import Example
from weitiao.methods import METHODS
from weitiao.objectives import OBJECTIVES
from weitiao.objectives._base import LossSum
from weitiao.recipe.blocks import BLOCKS, DEFAULT_NAMES, FIXED, NAMED, OUTER, Recipe
from weitiao.recipe.names.layers import Layer
from weitiao.recipe.names.own import blocks_for, every_setting_name, homes
from weitiao.recipe.names.reading import understand
from weitiao.recipe.recipe import parse_recipe, spelt_out

LEAST: dict[str, Any] = {"model": "m", "data": "my.json", "out": "runs/a"}


class WithSettings(OfSequences):
    """A toy objective with a setting of its own, which other tools call by another name."""

    known_elsewhere: ClassVar[Mapping[str, str]] = {"tau": "contrast"}
    title: ClassVar[str] = "toy with a setting"
    contrast: float = 0.1
    """How sharply it tells two answers apart."""

    def feature_loss(
        self, features_S: Tensor, examples: Sequence[Example], reference: Tensor | None = None
    ) -> LossSum:
        return LossSum(self.contrast * features_S.sum())


def test_every_field_is_a_block_and_knows_what_a_bare_value_means() -> None:
    assert list(BLOCKS) == list(Recipe.model_fields)
    assert {name: block.bare for name, block in BLOCKS.items() if block.bare} == {
        "model": "name",
        "data": "sources",
        "method": "name",
        "objective": "name",
    }
    assert [name for name, block in BLOCKS.items() if block.cls is None] == ["out"]
    assert NAMED["method"].registry is METHODS and NAMED["objective"].registry is OBJECTIVES
    assert DEFAULT_NAMES == {"method": {"name": "lora"}, "objective": {"name": "sft"}}
    assert set(BLOCKS) == {*OUTER, *NAMED, "out"}


def test_blocks_within_blocks_are_found_by_their_types() -> None:
    assert [path for path in FIXED if "." in path] == ["data.sources", "evaluate.generation"]
    assert all(issubclass(cls, Settings) for cls in FIXED.values())


@pytest.mark.parametrize("name", list(BLOCKS))
def test_a_block_is_read_however_it_is_spelt_and_a_wrong_one_is_answered_with_it(name: str) -> None:
    assert list(spelt_out({name.upper(): {}})) == [name]
    wrong = name[:-1] + ("x" if name != "out" else "tt")
    with pytest.raises(SettingsError, match=rf"there is no setting {wrong}(.|\n)*a block \([^)]*\b{name}\b"):
        parse_recipe({**LEAST, wrong: {}})


def test_a_setting_of_the_objective_is_found_without_its_block() -> None:
    blocks = blocks_for({"method": METHODS.load("lora"), "objective": WithSettings})
    assert homes("contrast", blocks) == homes("Contrast", blocks) == ["objective.contrast"]
    below = Layer({"objective": WithSettings()})
    for typed in ({"contrast": 0.3}, {"objective": {"contrast": 0.3}}, {"train": {"contrast": 0.3}}):
        above = Layer(typed, below)
        assert above.own.get("objective") == {"contrast": 0.3} and above.problems == []
    assert understand([Layer({"tau": 0.3}, below)]).raw["objective"] == {"contrast": 0.3}
    assert "objective" not in Layer({"contrast": 0.3}).own, "the default objective has no such setting"


def test_another_objective_does_not_inherit_settings_as_with_methods() -> None:
    below = Layer({"objective": WithSettings()})
    assert Layer({"objective": {"contrast": 0.3}}, below).replaces == []
    assert Layer({"objective": {"name": "sft"}}, below).replaces == ["objective"]
    assert Layer({"method": {"name": "ia3"}}, below).replaces == ["method"]
    assert Layer({"objective": {"name": "SFT"}}, Layer({})).replaces == []


def test_an_unknown_setting_is_answered_from_all_blocks_of_the_run() -> None:
    with pytest.raises(SettingsError, match=r"there is no setting contrst(.|\n)*contrast=1"):
        parse_recipe({**LEAST, "objective": WithSettings(), "contrst": 1})
    with pytest.raises(
        SettingsError, match=r"there is no setting num_virtual_token\b(.|\n)*num_virtual_tokens=3"
    ):
        parse_recipe({**LEAST, "method": "prompt_tuning", "num_virtual_token": 3})
    assert {"lr", "r", "num_virtual_tokens", "temperature"} <= set(every_setting_name())


def test_objective_and_its_settings_decide_what_a_run_is() -> None:
    """So a run that is resumed with another one is refused, as with another method."""
    runs = [parse_recipe({**LEAST, "objective": one}) for one in ("sft", Pairs(), WithSettings())]
    other = parse_recipe({**LEAST, "objective": WithSettings(contrast=0.3)})
    sft, pairs, with_settings = (run.decides() for run in runs)
    assert sft["objective.name"] == "sft" != pairs["objective.name"]
    assert with_settings["objective.contrast"] == 0.1 != other.decides()["objective.contrast"]


@pytest.mark.parametrize("typed", ["objective", "stf", ""])
def test_a_run_of_python_refuses_an_unknown_objective(typed: str, tmp_path: Path) -> None:
    import weitiao

    with pytest.raises(SettingsError, match=r"there is no objective called(.|\n)*sft"):
        weitiao.train(**{**LEAST, "out": tmp_path / "run"}, objective=typed, quiet=True)
