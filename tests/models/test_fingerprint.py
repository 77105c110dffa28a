"""A base is recognised whatever it was loaded as, and another one is not taken for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import tiny_architectures as tiny
from weitiao.models.fingerprint import (
    Fingerprint,
    fingerprint,
    fingerprint_of_files,
    remember_place,
    remembered_place,
)
from weitiao.models.load import load_config, load_model
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


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("converted", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_converted_copy_is_the_same_base(
    tmp_path: Path, stored: torch.dtype, converted: torch.dtype
) -> None:
    """What is loaded as `stored` and saved as `converted`; a changed number is told apart in either direction."""
    model = tiny.make_model("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e-7  # which fp16 holds as a number near zero
    model.to(stored).save_pretrained(tmp_path / "first")
    copy = load_model(ModelSettings(name=str(tmp_path / "first"), device_map="cpu", dtype=str(converted)))
    copy.save_pretrained(tmp_path / "second")
    base, second = (prints(tmp_path / name) for name in ("first", "second"))
    assert base.differences(second) == second.differences(base) == []
    assert bool(base.conversion(second)) == (stored is not converted)
    with torch.no_grad():
        copy.get_input_embeddings().weight[0, 0] += 0.01
    copy.save_pretrained(tmp_path / "other")
    other = prints(tmp_path / "other")
    assert base.differences(other) == other.differences(base) == ["model.embed_tokens.weight"]


def prints(folder: Path) -> Fingerprint:
    found = fingerprint_of_files(load_config(ModelSettings(name=str(folder))), folder)
    assert found is not None
    return Fingerprint.parse(found.as_dict())


def test_prints_of_older_versions_are_read(folder: Path) -> None:
    plain = prints(folder).as_dict()
    older = Fingerprint.parse({**plain, "tensors": {n: t[:3] for n, t in plain["tensors"].items()}})
    assert older.differences(prints(folder)) == []


def test_of_several_places_the_newest_that_still_holds_the_base_is_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEITIAO_HOME", str(tmp_path / "home"))
    base = fingerprint(load_model(ModelSettings(name=str(folder), device_map="cpu")), folder)
    assert remembered_place(base) is None
    copies = [shutil.copytree(folder, tmp_path / name) for name in ("one", "two")]
    for copy in (folder, *copies):
        remember_place(base, str(copy))
    assert remembered_place(base) == str(copies[1])
    tiny.make_model("llama", seed=1).save_pretrained(copies[1])
    assert remembered_place(base) == str(copies[0]), "the newest one holds other weights now"
    shutil.rmtree(copies[0])
    assert remembered_place(base) == str(folder)
    remember_place(base, "owner/name")
    assert remembered_place(base) == "owner/name"
