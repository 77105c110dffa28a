"""What is said to try for empty words, texts and blocks under other tools' names can be typed and works."""

from __future__ import annotations

from typing import Any

import pytest

from weitiao.core.errors import Problem, SettingsError
from weitiao.core.settings import parse_overrides
from weitiao.recipe.recipe import parse_recipe, read_recipe

LEAST: dict[str, Any] = {"model": "m", "data": "my.json", "out": "runs/a"}


def problem_of(raw: dict[str, Any], words: list[str] | None = None) -> Problem:
    with pytest.raises(SettingsError) as caught:
        read_recipe(None, raw, words)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("name", ["data.template", "out", "x", "train.lr", "model", "learning_rat"])
def test_a_word_without_a_value_is_to_be_left_out(name: str) -> None:
    problem = problem_of(LEAST, [f"{name}="])
    assert problem.remedy == f"leave {name}= out"
    assert "null" not in problem.expected, "which few settings take"


def test_a_word_without_a_name() -> None:
    assert problem_of(LEAST, ["=5"]).remedy == "NAME=5"
    assert problem_of(LEAST, ["--=5"]).remedy == "NAME=5"


@pytest.mark.parametrize("value", ["4bit", "three", [4], -1, 1.5, True], ids=str)
def test_bits_that_are_none_are_refused_with_bits_that_work(value: object) -> None:
    problem = problem_of({**LEAST, "quantization_bit": value})
    assert problem.remedy == "quantization_bit=4"
    again = parse_recipe({**LEAST, "quantization_bit": value}, parse_overrides([problem.remedy]))
    assert again.model.quantization == "nf4"


@pytest.mark.parametrize("data", ["mine.json", {"sources": [{"path": "x.json"}]}, ["a.json", "b.json"]])
def test_two_lists_of_data_are_no_word_to_type(data: object) -> None:
    problem = problem_of({**LEAST, "data": data, "dataset": "a,b"})
    assert problem.remedy == "leave dataset out"
    assert "{" not in problem.remedy


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"lora_rank": "8"}, "r", 8),
        ({"lora_rank": "8"}, "alpha", 16.0),
        ({"lora_alpha": "8"}, "alpha", 8.0),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": "2"}, "last_n", 2),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": "-2"}, "first_n", 2),
    ],
    ids=str,
)
def test_a_text_that_holds_a_number_is_that_number(given: dict[str, Any], name: str, value: object) -> None:
    assert parse_recipe(LEAST, given).method.model_dump()[name] == value


@pytest.mark.parametrize("rank", ["eight", True, [8], "8.5"], ids=str)
def test_a_rank_that_is_none_is_refused(rank: object) -> None:
    assert problem_of({**LEAST, "lora_rank": rank}).remedy == "lora_rank=8"


@pytest.mark.parametrize("given", [{"max_samples": 5}, {"data": {"sources": {"take": 5, "format": "auto"}}}])
def test_settings_of_sources_alone_are_no_data(given: dict[str, Any]) -> None:
    problem = problem_of({"model": "m", "out": "x", **given})
    assert problem.what == "data is missing"
    assert problem.remedy == "--data my.json"
