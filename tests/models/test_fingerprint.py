"""A base is recognised whatever it was loaded as, and another one is not taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_architectures as tiny
from weitiao.models.fingerprint import fingerprint
from weitiao.models.load import load_model
from weitiao.models.settings import ModelSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    tiny.make_model("llama").save_pretrained(path)
    return path


@pytest.mark.parametrize(
    "changes", [{}, {"dtype": "bf16"}, {"quantization": "nf4"}, {"quantization": "int8"}], ids=str
)
def test_one_base_loaded_in_other_ways_is_the_same(folder: Path, changes: dict[str, str]) -> None:
    settings = ModelSettings(name=str(folder), device_map="cpu", **changes)
    whole = fingerprint(load_model(ModelSettings(name=str(folder), device_map="cpu")))
    for other in (fingerprint(load_model(settings)), fingerprint(load_model(settings), folder)):
        assert whole.differences(other) == other.differences(whole) == []
        assert len(whole.tensors) > len(other.tensors) - 1 > 0


def test_another_shape_and_other_weights_differ() -> None:
    base = fingerprint(tiny.make_model("llama"))
    assert "config.rope_parameters" in base.differences(fingerprint(tiny.make_model("llama", rope_theta=5.0)))
    assert len(base.differences(fingerprint(tiny.make_model("llama", seed=1)))) > 8


def test_one_trained_matrix_differs() -> None:
    model = tiny.make_model("llama")
    base = fingerprint(model)
    with torch.no_grad():
        model.get_input_embeddings().weight[0, 0] += 1
    assert base.differences(fingerprint(model)) == ["model.embed_tokens.weight"]
