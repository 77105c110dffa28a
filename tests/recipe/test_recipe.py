"""Reading a run: dicts, YAML, overrides, objects; every problem of every block at once, each with what to try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from weitiao.core.dotted_names import by_dotted_name
from weitiao.core.errors import Problem, SettingsError
from weitiao.core.settings import deciding_nothing
from weitiao.data.settings import DataSettings
from weitiao.engine.settings import TrainSettings
from weitiao.methods import METHODS
from weitiao.models.settings import ModelSettings
from weitiao.recipe.api import train
from weitiao.recipe.recipe import Recipe, parse_recipe, read_recipe

LEAST: dict[str, Any] = {"model": "smollm2-135m", "data": "my.json", "out": "runs/a"}
METHOD_LORA = METHODS.load("lora")


def problems_of(raw: dict[str, Any]) -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        parse_recipe(raw)
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def test_the_least_a_run_needs() -> None:
    recipe = parse_recipe(LEAST)
    assert (recipe.model.name, recipe.method.name, recipe.objective.name) == ("smollm2-135m", "lora", "sft")
    assert recipe.data.sources[0].path == "my.json"
    assert recipe.out == Path("runs/a")
    assert recipe.lr == recipe.method.suggested_lr


def test_objects_mappings_and_names_mean_the_same() -> None:
    short = parse_recipe({**LEAST, "method": {"name": "lora", "r": 4}, "train": {"lr": 1e-3}})
    objects = parse_recipe(
        {
            "model": ModelSettings(name="smollm2-135m"),
            "data": DataSettings(sources="my.json"),  # type: ignore[arg-type]
            "method": METHOD_LORA(r=4),
            "train": TrainSettings(lr=1e-3),
            "out": Path("runs/a"),
        }
    )
    assert objects == short


def test_what_is_written_reads_back_equal(tmp_path: Path) -> None:
    recipe = parse_recipe(
        {
            **LEAST,
            "method": {"name": "lora", "r": 4},
            "train": {"lr": 1e-5, "eps": 1e-10, "steps": 7},
            "out": tmp_path,
        }
    )
    path = tmp_path / "run.yaml"
    path.write_text(recipe.as_yaml(), encoding="utf-8")
    again = read_recipe(path, {})
    assert again == recipe
    assert again.as_yaml() == recipe.as_yaml()


def test_a_run_file_flags_and_words_lie_over_each_other(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: a\ndata: my.json\nmethod: {name: lora, r: 4, alpha: 8}\ntrain: {lr: 1e-5, steps: 3}\n"
    )
    recipe = read_recipe(path, {"model": {"name": "b"}, "out": "o"}, ["method.r=16", "train.lr=2e-4"])
    assert recipe.model.name == "b"
    assert recipe.method.model_dump()["r"] == 16
    assert recipe.method.model_dump()["alpha"] == 8
    assert (recipe.train.lr, recipe.train.steps) == (2e-4, 3)


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "0.00001", "1.0e-5"])
def test_a_number_in_yaml_is_a_number(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"model: a\ndata: my.json\nout: o\ntrain: {{lr: {text}}}\n")
    assert read_recipe(path, {}).train.lr == 1e-5
    assert read_recipe(None, LEAST, [f"train.lr={text}"]).train.lr == 1e-5


def test_a_repeated_key_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: a\ndata: my.json\nout: o\ntrain:\n  lr: 1e-5\n  lr: 2e-5\n")
    with pytest.raises(SettingsError, match=r"(?s)duplicate.*line 6"):
        read_recipe(path, {})


@pytest.mark.parametrize("text", ["model: [", "\x00", "- a\n- b\n", "just text"])
def test_what_is_no_run_file_is_said(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        read_recipe(path, {})


def test_a_run_file_that_is_not_there_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: a\n")
    with pytest.raises(SettingsError, match=r"run\.yaml") as caught:
        read_recipe(tmp_path / "rum.yaml", {})
    assert caught.value.problems[0].remedy == str(tmp_path / "run.yaml")


def test_every_problem_of_every_block_is_found_at_once() -> None:
    found = problems_of(
        {
            "model": {"nme": "x"},
            "data": {"sources": "my.json", "max_lenght": 10, "held_out": "much"},
            "method": {"name": "lora", "rr": 4},
            "objective": "stf",
            "train": {"lr": -1, "learning_rat": 1e-4, "betas": [2, 3], "steps": 1.5},
            "evaluate": {"qestions": []},
            "track": {"to": ["tensorbord"]},
            "otu": "x",
        }
    )
    text = "\n".join(map(str, found))
    for key in (
        "model.nme",
        "model.name",
        "data.max_lenght",
        "data.held_out",
        "method.rr",
        "stf",
        "train.lr",
        "train.learning_rat",
        "train.betas",
        "train.steps",
        "evaluate.qestions",
        "track.to",
        "otu",
        "out is missing",
    ):
        assert key in text, key
    assert all(problem.what for problem in found)


@pytest.mark.parametrize(
    ("wrong", "tried"),
    [
        ({"train": {"batch_sise": 4}}, "train.batch_size"),
        ({"method": {"name": "lora", "drop_out": 0.1}}, "method.dropout"),
        ({"data": {"sources": "a", "held_ot": 0.1}}, "data.held_out"),
        ({"train": {"scheduler": "cosin"}}, "train.scheduler=cosine"),
        ({"learning_rat": 1e-4}, "learning_rate"),
        ({"btach_size": 8}, "batch_size"),
        ({"trian": {}}, "train"),
        ({"method": "lra"}, "lora"),
    ],
    ids=str,
)
def test_what_to_try_instead(wrong: dict[str, Any], tried: str) -> None:
    (problem,) = problems_of({**LEAST, **wrong})
    assert problem.got
    assert any(option in problem.remedy for option in tried.split(" or ")), problem


@pytest.mark.parametrize(
    "wrong",
    [
        {"train": {"lr": "fast"}},
        {"train": {"lr": float("inf")}},
        {"train": {"lr": float("nan")}},
        {"train": {"weight_decay": float("inf")}},
        {"train": {"betas": [0.9, 1.0]}},
        {"train": {"eps": 0}},
        {"train": {"batch_size": 0}},
        {"train": {"epochs": 0}},
        {"train": {"seed": -1}},
        {"train": {"scheduler": "cosin"}},
        {"train": {"optimizer": "sgdd"}},
        {"train": {"warmup_steps": 5, "warmup_ratio": 0.1}},
        {"train": {"warmup_steps": 50, "steps": 10}},
        {"train": 5},
        {"train": [1]},
        {"data": {"sources": []}},
        {"data": 7},
        {"model": {"name": ""}},
        {"method": 4},
        {"data": {"sources": "rows.json", "max_length": 2**70}},
        {"train": {"steps": 2**70}},
        {"model": {"name": "a\0b"}},
        {"data": {"sources": "rows.json", "held_out_path": "a\0b"}},
        {"data": {"sources": "rows.json", "held_out_path": "~nobody-of-this-name/rows.json"}},
        {"out": ""},
        {"out": "a\0b"},
        {"out": 3},
        {"out": "a\0b"},
        {"out": "~nobody-of-this-name/run"},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_used(wrong: dict[str, Any]) -> None:
    found = problems_of({**LEAST, **wrong})
    key = next(iter(wrong))
    assert any(key in problem.what for problem in found), found


@pytest.mark.parametrize("text", ["off", "'off'", "false", "no"])
def test_frozen_cache_is_switched_off_in_a_file_and_by_a_word(text: str, tmp_path: Path) -> None:
    """YAML reads off as false; what is written reads back."""
    path = tmp_path / "run.yaml"
    path.write_text(f"model: a\ndata: my.json\nout: o\ntrain: {{frozen_cache: {text}}}\n")
    read, worded = read_recipe(path, {}), read_recipe(None, LEAST, [f"train.frozen_cache={text}"])
    assert (read.train.frozen_cache, worded.train.frozen_cache) == ("off", "off")
    path.write_text(worded.as_yaml(), encoding="utf-8")
    assert read_recipe(path, {}).as_yaml() == worded.as_yaml()


@pytest.mark.parametrize("word", ["train.lr", "=3", "--train.lr=3", "-r=3"])
def test_a_word_that_is_no_override(word: str) -> None:
    with pytest.raises(SettingsError, match="key=value"):
        read_recipe(None, LEAST, ["train.steps=3", word])


def test_what_decides_the_result_and_what_does_not() -> None:
    recipe = parse_recipe(LEAST)
    decides = recipe.decides()
    assert {"train.lr", "train.seed", "train.batch_size", "method.r", "model.name", "data.max_length"} <= set(
        decides
    )
    every = set(by_dotted_name(recipe.as_dict()))
    may_differ = deciding_nothing(recipe)
    assert {"model.hub", "train.pack_tokens", "train.save_every", "evaluate", "track", "out"} <= may_differ
    for free in may_differ:
        assert any(name == free or name.startswith(f"{free}.") for name in every), f"{free} names no setting"
        assert not any(name == free or name.startswith(f"{free}.") for name in decides)


def test_another_method_brings_none_of_the_first_ones_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: a\ndata: my.json\nout: o\nmethod: {name: lora, r: 4}\n")
    assert read_recipe(path, {}, ["method=freeze"]).method.name == "freeze"
    assert read_recipe(path, {}, ["method=lora"]).method.model_dump()["r"] == 4
    path.write_text("model: a\ndata: my.json\nout: o\nmethod: {r: 4}\n")
    assert read_recipe(path, {}, ["method=lora"]).method.model_dump()["r"] == 4


def test_every_field_says_what_it_is() -> None:
    assert all(field.description for field in Recipe.model_fields.values())
    assert all(field.description for field in TrainSettings.model_fields.values())
    assert yaml.safe_load(parse_recipe(LEAST).as_yaml())["train"]["batch_size"] == 8


def test_a_setting_of_sources_reaches_each_of_them(tmp_path: Path) -> None:
    """What error messages say to type works, however the sources were given."""
    given: list[Any] = ["a.json", ["a.json", "b.json"], [{"path": "a.json"}, {"path": "b.json", "weight": 2}]]
    for sources in given:
        recipe = read_recipe(
            None, {"data": sources, "model": "m"}, ["data.sources.encoding=gb18030", "out=x"]
        )
        assert {source.encoding for source in recipe.data.sources} == {"gb18030"}
        assert recipe.data.sources[0].path == "a.json"


def test_a_dataset_dict_is_data_not_a_block_of_settings(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([{"question": "q", "answer": "a"}])
    with pytest.raises(SettingsError, match="no split 'train', only test"):
        train(model="none", data=datasets.DatasetDict(test=rows), out=tmp_path / "run")
    with pytest.raises(SettingsError, match="there is no setting odd"):
        train(model="none", data=datasets.DatasetDict(train=rows), out=tmp_path / "run", odd=1)
