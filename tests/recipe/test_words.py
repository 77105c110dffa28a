"""Words laid beside each other: one for a whole block and one inside it, in either order, lose nothing."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from weitiao.core.dotted_names import by_dotted_name
from weitiao.core.errors import SettingsError
from weitiao.methods import METHODS
from weitiao.recipe.recipe import Recipe, read_recipe

RUN_FILE = """\
model: {name: of-the-file, revision: old}
data: {sources: [{path: of-the-file.json}], max_length: 300}
method: {name: lora, r: 8}
out: runs/a
"""

WORDS: list[tuple[list[str], dict[str, Any]]] = [
    (
        ["method=ia3", "method.target_modules=auto"],
        {"method.name": "ia3", "method.target_modules": "auto"},
    ),
    (["Method=IA3", "method.target_modules=auto"], {"method.name": "ia3"}),
    (["method=full", "train.lr=1e-4"], {"method.name": "full"}),
    (
        ["method=qlora", "method.r=4"],
        {"method.name": "lora", "method.r": 4, "model.quantization": "nf4"},
    ),
    (["method=dora", "method.alpha=3"], {"method.use_dora": True, "method.alpha": 3.0}),
    (
        ["model=mine", "model.dtype=fp32"],
        {"model.name": "mine", "model.dtype": "fp32", "model.revision": "old"},
    ),
    (["data=d4.json", "data.held_out=3"], {"path": "d4.json", "data.held_out": 3.0, "data.max_length": 300}),
    (["data=d4.json", "data.sources.take=3"], {"path": "d4.json", "take": 3}),
    (["data=[a.json, b.json]", "data.sources.take=3"], {"path": "a.json", "take": 3}),
    (["data.sources=d4.json", "data.sources.take=3"], {"path": "d4.json", "take": 3}),
    (
        ["data.replay=8", "data.replay.language=en"],
        {"data.replay.share": 8.0, "data.replay.language": "en"},
    ),
    (["data.replay=on", "data.replay.language=en"], {"data.replay.language": "en"}),
    (["objective=sft", "train.lr=1e-4"], {"objective.name": "sft"}),
]


def read(tmp_path: Path, words: list[str]) -> Recipe:
    path = tmp_path / "run.yaml"
    path.write_text(RUN_FILE, encoding="utf-8")
    return read_recipe(path, {}, words)


@pytest.mark.parametrize(("words", "settings"), WORDS, ids=str)
def test_a_word_inside_a_block_leaves_the_word_for_the_block(
    words: list[str], settings: dict[str, Any], tmp_path: Path
) -> None:
    for order in permutations(words):
        recipe = read(tmp_path, list(order))
        values = by_dotted_name(recipe.as_dict()) | recipe.data.sources[0].model_dump()
        assert {name: values[name] for name in settings} == settings, order


@pytest.mark.parametrize("method", METHODS.names())
def test_each_method_keeps_its_name_beside_its_settings(method: str, tmp_path: Path) -> None:
    words = [f"method.{name}={value}" for name, value in METHODS.load(method).example.items()]
    for setting in METHODS.load(method).model_fields:
        inside = [*words, f"method.{setting}=null"]
        try:
            recipe = read(tmp_path, [f"method={method}", *inside])
        except SettingsError as error:  # the setting cannot be left out
            assert all(one.what.startswith(f"method.{setting}") for one in error.problems)
        else:
            assert recipe.method.name == method


@pytest.mark.parametrize(
    "words",
    [
        ["method=ia3", "method.name=lora"],
        ["model=a", "model.name=b"],
        ["data=a.json", "data.sources=b.json"],
        ["data.replay=off", "data.replay.language=en"],
        ["data.replay=8", "data.replay.share=0.5"],
        ["evaluate=3", "evaluate.generation.temperature=0"],
    ],
    ids=str,
)
def test_two_words_that_say_different_things_are_refused_with_both(words: list[str], tmp_path: Path) -> None:
    for order in permutations(words):
        with pytest.raises(SettingsError) as caught:
            read(tmp_path, list(order))
        (problem,) = caught.value.problems
        assert all(word.partition("=")[0] in problem.got for word in words)
        assert problem.remedy == f"leave {order[1].partition('=')[0]} out"


def test_of_one_name_given_twice_the_last_counts(tmp_path: Path) -> None:
    assert read(tmp_path, ["train.lr=1e-4", "train.lr=2e-4"]).train.lr == 2e-4
    assert read(tmp_path, ["method=ia3", "method=lora"]).method.name == "lora"
    fill = read(tmp_path, ["data.fill={a: x}", "data.fill={b: y}"]).data.fill
    assert fill == {"a": "x", "b": "y"}
