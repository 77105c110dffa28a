"""Numbers that no run can have, under other tools' names: a problem that names them, never a traceback."""

from __future__ import annotations

import math
from typing import Any

import pytest

from weitiao.core.errors import SettingsError
from weitiao.recipe.names.table import TABLE
from weitiao.recipe.recipe import parse_recipe, read_recipe

LEAST: dict[str, Any] = {"model": "m", "data": "my.json", "out": "runs/a"}
ODD = [math.inf, -math.inf, math.nan, 10**400, 2**70, "inf", "nan", "1e400", True, 0, -3, 2.5, "x", [1], {}]
COUNTS = [
    "per_device_train_batch_size",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "global_batch_size",
    "save_steps",
    "eval_steps",
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[:9])
@pytest.mark.parametrize("name", [*COUNTS, "quantization_bit"])
def test_an_odd_count_is_refused_with_its_name(name: str, value: object) -> None:
    if name == "quantization_bit" and value in (0, {}):
        return  # which asks for nothing
    with pytest.raises(SettingsError) as caught:
        parse_recipe(LEAST, {name: value})
    (problem,) = caught.value.problems
    assert name in problem.what
    assert problem.remedy.startswith(f"{name}=")
    parse_recipe(LEAST, {name: value}, {name: float(problem.remedy.rpartition("=")[2])})


def test_an_odd_count_as_a_word_is_refused() -> None:
    for text in ("inf", ".inf", "nan", ".nan", "1e400"):
        with pytest.raises(SettingsError, match="per_device_train_batch_size cannot be read"):
            read_recipe(None, LEAST, [f"per_device_train_batch_size={text}"])


@pytest.mark.parametrize(("turn", "value"), enumerate([*ODD, "", None, (), b"x", object()]))
def test_no_name_of_the_table_ends_in_a_traceback(turn: int, value: object) -> None:
    """Names stand by themselves and in their block by turns."""
    for number, one in enumerate(TABLE, start=turn):
        raw = {one.name: value} if number % 2 or "." in one.home else {one.home: {one.name: value}}
        try:
            parse_recipe({**LEAST, **raw})
        except SettingsError as error:
            assert error.problems


@pytest.mark.parametrize("size", ["x", "", "0", "-1", "1.5", "1e3", "٣"])
def test_a_number_of_processes_that_is_none_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(SettingsError) as caught:
        parse_recipe(LEAST, {"per_device_train_batch_size": 2})
    assert "WORLD_SIZE" in caught.value.problems[0].what
