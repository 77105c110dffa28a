"""Switches of other tools: yes or no in any spelling, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from weitiao.core.errors import Problem, SettingsError
from weitiao.recipe.recipe import parse_recipe, read_recipe

LEAST: dict[str, Any] = {"model": "m", "data": "my.json", "out": "runs/a"}
SWITCHES = [
    "load_in_4bit",
    "load_in_8bit",
    "bf16",
    "fp16",
    "pure_bf16",
    "use_cpu",
    "no_cuda",
    "do_sample",
    "use_liger_kernel",
    "enable_liger_kernel",
    "activation_checkpointing",
    "activation_offloading",
    "train_on_prompt",
    "mask_history",
    "train_on_inputs",
    "pissa_init",
    "use_swanlab",
    "disable_gradient_checkpointing",
    "greater_is_better",
    "completion_only_loss",
    "assistant_only_loss",
]


def problems_of(*layers: dict[str, Any]) -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        parse_recipe(LEAST, *layers)
    return list(caught.value.problems)


@pytest.mark.parametrize("value", ["maybe", "ture", [True], 2, {"a": 1}, -1.0], ids=str)
@pytest.mark.parametrize("name", SWITCHES)
def test_what_is_neither_yes_nor_no_is_refused(name: str, value: object) -> None:
    (problem,) = problems_of({name: value})
    assert problem.what.startswith(f"{name} cannot be read")
    assert problem.expected == "true or false"
    for remedy in problem.remedy.split(" or "):
        word, _, typed = remedy.partition("=")
        assert (word, typed in ("true", "false")) == (name, True)


def test_the_nearest_spelling_is_what_to_try() -> None:
    assert problems_of({"bf16": "ture"})[0].remedy == "bf16=true"
    assert problems_of({"fp16": "flase"})[0].remedy == "fp16=false"
    assert problems_of({"load_in_4bit": "maybe"})[0].remedy == "load_in_4bit=true or load_in_4bit=false"
    both = problems_of({"load_in_8bit": False, "load_in_4bit": "tru"})
    assert [one.remedy for one in both] == ["load_in_4bit=true"], "of names that are read together, the one"
    four = problems_of({"load_in_4bit": True, "bnb_4bit_use_double_quant": "yess"})
    assert [one.remedy for one in four] == ["bnb_4bit_use_double_quant=true"]


@pytest.mark.parametrize("value", ["true", "True", "yes", "on", "1", 1, 1.0, True], ids=repr)
def test_yes_in_any_spelling(value: object) -> None:
    assert parse_recipe(LEAST, {"bf16": value}).model.dtype == "bf16"


@pytest.mark.parametrize("value", ["false", "No", "off", "0", 0, 0.0, False, None], ids=repr)
def test_no_in_any_spelling(value: object) -> None:
    assert parse_recipe(LEAST, {"bf16": value}).model.dtype == "auto"
    assert parse_recipe(LEAST, {"load_in_4bit": value}).model.quantization == "none"


def test_a_switch_as_a_word() -> None:
    assert read_recipe(None, LEAST, ["load_in_4bit=TRUE"]).model.quantization == "nf4"
    with pytest.raises(SettingsError, match="true or false"):
        read_recipe(None, LEAST, ["do_sample=maybe"])
