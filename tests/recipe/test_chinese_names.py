"""What is said of other tools' names, and why one is refused, is there in Chinese."""

from __future__ import annotations

from typing import Any

import pytest

from left_in_english import english_in
from weitiao.core.errors import Problem, SettingsError
from weitiao.core.locale import in_language
from weitiao.recipe.names.entries import Name
from weitiao.recipe.names.table import TABLE
from weitiao.recipe.recipe import parse_recipe

VALUES: tuple[Any, ...] = (None, True, False, "x", 3, 0.5, ["a", "b"])
RUN = {"model": "smollm2-135m", "data": "my.json", "out": "runs/mine"}


def names_of_each_meaning() -> list[Name]:
    """Return one name of the table for each setting or reason."""
    return list({one.becomes: one for one in TABLE}.values())


def said_of(settings: dict[str, Any]) -> list[str]:
    """Return the sentences about settings; a value that the setting here refuses has its own sentence elsewhere."""
    try:
        return list(parse_recipe({**RUN, **settings}).said)
    except SettingsError as error:
        return [text for one in error.problems if "cannot be used" not in one.what for text in parts_of(one)]


def parts_of(problem: Problem) -> tuple[str, ...]:
    return (problem.what, problem.expected, *problem.remedy.split(" or "))


@pytest.mark.parametrize("name", names_of_each_meaning(), ids=lambda one: one.name)
def test_every_sentence_about_a_name_is_chinese(name: Name) -> None:
    typed = name.name.replace("*", "x")
    for value in VALUES:
        said = [in_language(text, "zh") for text in said_of({typed: value})]
        assert [left for text in said for left in english_in(text)] == [], (typed, value)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"load_in_4bit": True, "load_in_8bit": True}, "无法读取 load_in_4bit 和 load_in_8bit：两个都要求了"),
        ({"optim": "sgd"}, "optim：尚未实现优化器 sgd"),
        ({"bf16": "maybe"}, "无法读取 bf16：必须是 true 或 false"),
        ({"lora_rank": 4, "r": 5}, "method.r 的两个名称给出了不同的值"),
        ({"train": {"lr": -1}}, "train.lr 无法使用：必须大于 0"),
        ({"train": {"steps": 1.5}}, "train.steps 无法使用：不是整数"),
        (
            {"evaluate": {"generation": {"top_k": 3, "num_return_sequences": 2}}},
            "evaluate.generation 无法使用：top_k 和 top_p 需要 temperature 大于 0；"
            "num_return_sequences 2 需要 temperature 大于 0，或同样多的 num_beams",
        ),
    ],
)
def test_a_refusal_of_several_sentences_is_whole(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_recipe({**RUN, **settings})
    assert in_language(caught.value.problems[0].what, "zh") == what
