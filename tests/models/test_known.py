"""The table of known models: names that hold together, sizes that fit the names, sentences that are used."""

from __future__ import annotations

import re

import pytest

from weitiao.cli._models_list import LATER
from weitiao.core.locale.catalogue import chinese_catalogue
from weitiao.core.yaml_text import load_yaml
from weitiao.models.known import FILE, KnownModel, known, known_models

MODELS = known_models()
SIZE = re.compile(r"(?<![a-z\d])(\d+)(?:[._](\d+))?([bm])(\d*)(?![a-z\d])")
"""A size in a model's name: 7b, 1.5b, 1_8b, 1b4, 135m."""


def size_in(name: str) -> float | None:
    """Return the parameters that a name speaks of."""
    found = SIZE.search(name)
    if found is None:
        return None
    whole, tenths, unit, behind = found.groups()
    return float(f"{whole}.{tenths or behind or 0}") * {"b": 1e9, "m": 1e6}[unit]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("qwen2.5-0.5b-instruct", 5e8),
        ("internlm2_5-1_8b-chat", 1.8e9),
        ("bloom-2b5-zh", 2.5e9),
        ("phi-4", None),
    ],
)
def test_sizes_are_read_from_names(name: str, size: float | None) -> None:
    assert size_in(name) == size


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_a_model_is_what_its_name_says(model: KnownModel) -> None:
    assert model.hub.count("/") == 1 and (model.modelscope or "a/b").count("/") == 1
    size = size_in(model.alias)
    assert size is None or 0.65 * size < model.parameters < 1.7 * size
    assert model.parameters < model.download_bytes < 6 * model.parameters
    assert model.context is None or model.context >= 512
    assert model.kind == "causal" or model.kind in LATER


def test_every_alias_is_the_last_part_of_an_id_and_stands_once() -> None:
    rows = [row for family in load_yaml(FILE.read_text())["families"] for row in family["models"]]
    assert len(rows) == len(MODELS)
    assert all(alias == model.hub.split("/")[1].lower() for alias, model in MODELS.items())


def test_every_sentence_is_used_and_has_its_chinese() -> None:
    sentences = set(load_yaml(FILE.read_text())["traps"].values())
    assert sentences == {trap for model in MODELS.values() for trap in model.traps}
    chinese = chinese_catalogue()
    assert [one for one in sentences | set(LATER.values()) if not chinese.has(one)] == []


@pytest.mark.parametrize(
    "family", ["Qwen2.5", "Qwen3", "Llama 3", "Mistral", "Gemma 2", "Gemma 3", "Phi", "GLM"]
)
def test_the_families_people_ask_for_are_there(family: str) -> None:
    assert family in {model.family for model in MODELS.values()}


@pytest.mark.parametrize(
    "name",
    [
        "qwen2.5-0.5b-instruct",
        "Qwen2.5-0.5B-Instruct",
        "Qwen/Qwen2.5-0.5B-Instruct",
        "qwen/qwen2.5-0.5b-instruct",
    ],
)
def test_a_model_is_found_by_alias_and_by_id_in_any_case(name: str) -> None:
    found = known(name)
    assert found and found.alias == "qwen2.5-0.5b-instruct"


def test_an_id_of_modelscope_finds_the_model_too() -> None:
    found = known("LLM-Research/Meta-Llama-3.1-8B-Instruct")
    assert found and found.hub == "meta-llama/Llama-3.1-8B-Instruct"
    assert known("no-such-model") is None
