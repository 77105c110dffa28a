"""What one name excludes and another asks for is refused in one layer, and replaced from above."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from weitiao.core.errors import SettingsError
from weitiao.core.settings import parse_overrides
from weitiao.recipe.recipe import parse_recipe, read_recipe

LEAST: dict[str, Any] = {"model": "m", "data": "my.json", "out": "runs/a"}

CLASHES = [
    ["model.quantization=nf4", "load_in_4bit=false"],
    ["model.quantization=fp4", "load_in_4bit=no"],
    ["model.quantization=int8", "load_in_8bit=false"],
    ["model.quantization=nf4", "quantization_bit=0"],
    ["model.quantization=int8", "quantization_bit=16"],
    ["quantization_bit=4", "load_in_8bit=true"],
    ["quantization_bit=8", "load_in_4bit=true"],
    ["quantization_bit=4", "load_in_4bit=false"],
    ["quantization_bit=0", "load_in_8bit=true"],
    ["load_in_4bit=true", "model.quantization=int8"],
    ["bf16=false", "model.dtype=bf16"],
    ["bf16=false", "torch_dtype=bfloat16"],
    ["fp16=false", "model.dtype=fp16"],
    ["pure_bf16=false", "bf16=true"],
    ["use_cpu=false", "model.device_map=cpu"],
    ["train_on_prompt=false", "data.train_on=all"],
    ["disable_gradient_checkpointing=false", "train.gradient_checkpointing=none"],
]


@pytest.mark.parametrize("words", CLASHES, ids=str)
def test_what_is_excluded_and_asked_for_is_refused_with_both(words: list[str]) -> None:
    for order in permutations(words):
        with pytest.raises(SettingsError) as caught:
            read_recipe(None, LEAST, list(order))
        (problem,) = caught.value.problems
        for word in words:
            assert word.partition("=")[0] in problem.got
        assert problem.remedy
        for remedy in problem.remedy.split(" or "):
            parse_recipe(LEAST, parse_overrides(words), parse_overrides(remedy.split()))


@pytest.mark.parametrize(
    ("below", "above", "setting"),
    [
        ({"quantization": "nf4"}, "load_in_4bit=false", "none"),
        ({"quantization": "nf4"}, "quantization_bit=0", "none"),
        ({"quantization": "int8"}, "load_in_4bit=false", "int8"),
        ({"load_in_4bit": False}, "model.quantization=nf4", "nf4"),
        ({"load_in_4bit": True}, "load_in_4bit=false", "none"),
    ],
    ids=str,
)
def test_what_lies_above_wins(below: dict[str, Any], above: str, setting: str) -> None:
    run = {**LEAST, "model": {"name": "m", **below}}
    assert parse_recipe(run, parse_overrides([above])).model.quantization == setting


def test_a_precision_from_below_is_switched_off() -> None:
    run = {**LEAST, "model": {"name": "m", "dtype": "bf16"}}
    assert parse_recipe(run, {"bf16": False}).model.dtype == "auto"
    assert parse_recipe(run, {"fp16": False}).model.dtype == "bf16"
    assert parse_recipe({**LEAST, "bf16": False}, {"torch_dtype": "bfloat16"}).model.dtype == "bf16"


def test_a_number_of_rows_beside_that_of_a_source() -> None:
    sources = [{"path": "d40.json", "take": 3}, {"path": "b.json"}]
    with pytest.raises(SettingsError) as caught:
        parse_recipe({**LEAST, "data": {"sources": sources}, "max_samples": 5})
    assert "max_samples: 5" in caught.value.problems[0].got
    with pytest.raises(SettingsError):
        parse_recipe({**LEAST, "data": {"sources": sources[:1], "max_samples": 5}})
    same = parse_recipe({**LEAST, "data": {"sources": sources[:1]}, "max_samples": 3})
    assert same.data.sources[0].take == 3
    above = parse_recipe({**LEAST, "data": {"sources": sources}}, {"max_samples": 5})
    assert [source.take for source in above.data.sources] == [5, 5]


@pytest.mark.parametrize("name", ["eval_strategy", "evaluation_strategy", "save_strategy"])
@pytest.mark.parametrize("value", ["foo", "epochs", "step", True, 3, ["steps"]], ids=str)
def test_an_unknown_strategy_is_refused_with_the_known_ones(name: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_recipe(LEAST, {name: value})
    (problem,) = caught.value.problems
    assert "steps, epoch, no" in problem.expected
    assert problem.remedy.startswith(f"{name}=")
    for remedy in problem.remedy.split(" or "):
        parse_recipe(LEAST, parse_overrides([remedy]))


def test_numbers_that_mean_none() -> None:
    for value in (0, -1):
        with pytest.raises(SettingsError, match="save_total_limit=1"):
            parse_recipe(LEAST, {"save_total_limit": value})
    with pytest.raises(SettingsError, match="not a number of measurements"):
        parse_recipe(LEAST, {"early_stopping_patience": True})
    assert parse_recipe(LEAST, {"early_stopping_patience": False}).train.early_stopping_patience == "off"


def test_a_strategy_in_a_run_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: m\ndata: d.json\nout: o\neval_strategy: no\nsave_strategy: null\n", encoding="utf-8"
    )
    assert read_recipe(path, {}).train.eval_every is None
