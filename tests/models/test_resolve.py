"""What a model's name means, and what is said when it means nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny
import tiny_architectures
from weitiao.core.errors import ModelError
from weitiao.models.load import load_config, load_model, load_tokenizer, load_weightless
from weitiao.models.resolve import resolve
from weitiao.models.settings import ModelSettings


def refusal(name: str, **settings: object) -> str:
    with pytest.raises(ModelError) as error:
        resolve(ModelSettings(name=name, **settings))
    return str(error.value)


def test_a_folder(tiny_model_folder: Path) -> None:
    found = resolve(ModelSettings(name=str(tiny_model_folder)))
    assert (found.path, found.local) == (str(tiny_model_folder.resolve()), True)


def test_a_misspelt_folder_names_the_near_one(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    text = refusal(f"{tmp_path}/my-modle")
    assert str(tmp_path / "my-model") in text
    assert "smollm2-135m" in text


def test_a_misspelt_alias_names_the_alias() -> None:
    text = refusal("smollm-135m")
    assert "try       smollm2-135m" in text
    assert "cannot be reached" in text


def test_a_hub_model_that_is_not_cached_says_so() -> None:
    assert "not in the hub's cache" in refusal("owner/model")


def test_an_adapters_folder_names_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base"}))
    text = refusal(str(tmp_path))
    assert f"model.name=owner/base model.adapter={tmp_path}" in text


def test_a_folder_with_a_gguf_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert f"try       {tmp_path}/model.gguf" in refusal(str(tmp_path))


def test_pickled_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    text = refusal(str(tmp_path))
    assert "can run any code" in text
    assert "pytorch_model.bin" in text


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / shards["a"]).write_bytes(b"")
    assert f"got       {shards['b']}\n" in refusal(str(tmp_path))


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "broken.gguf").write_bytes(b"<html>")
    assert "not a model" in refusal(str(tmp_path / "notes.txt"))
    assert "not GGUF" in refusal(str(tmp_path / "broken.gguf"))
    assert "no model at this path" in refusal("nothing.gguf")


def write_config(folder: Path, **changes: object) -> ModelSettings:
    tiny.save_tiny_model(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return ModelSettings(name=str(folder))


def test_a_models_own_code_is_not_run_unless_said(tmp_path: Path) -> None:
    auto_map = {"AutoConfig": "own_code.OwnConfig"}
    settings = write_config(tmp_path, model_type="own", auto_map=auto_map)
    (tmp_path / "own_code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="trust_remote_code=true"):
        load_config(settings)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_architecture_and_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="config of"):
        load_config(write_config(tmp_path / "a", model_type="nothing-known"))
    with pytest.raises(ModelError, match="does not generate text"):
        load_weightless(write_config(tmp_path / "b", model_type="t5"))


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("llama", "LlamaForSequenceClassification"),
        ("bert", "BertForMaskedLM"),
        ("t5", "T5ForConditionalGeneration"),
    ],
)
def test_a_model_saved_for_another_task_is_named(tmp_path: Path, model_type: str, architecture: str) -> None:
    """transformers would load its body and make up the head."""
    with pytest.raises(ModelError, match=rf"does not generate text(.|\n)*{architecture}"):
        load_config(write_config(tmp_path, model_type=model_type, architectures=[architecture]))
    load_config(write_config(tmp_path, model_type="llama", architectures=["LlamaForCausalLM"]))


def test_damaged_weights(tmp_path: Path) -> None:
    settings = write_config(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        load_model(settings)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    tiny_architectures.make_model("llama").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(ModelSettings(name=str(tmp_path)))


def test_a_quantised_model_is_not_quantised_again(tmp_path: Path) -> None:
    quantization = {"quant_method": "gptq", "bits": 4}
    settings = write_config(tmp_path, quantization_config=quantization)
    with pytest.raises(ModelError, match="is already quantised"):
        load_config(settings.model_copy(update={"quantization": "nf4"}))


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("auto", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_on_a_cpu(tiny_model_folder: Path, dtype: str, torch_dtype: torch.dtype) -> None:
    model = load_model(ModelSettings(name=str(tiny_model_folder), dtype=dtype, device_map="cpu"))
    assert {p.dtype for p in model.parameters()} == {torch_dtype}


def test_the_weightless_model_has_the_loaded_ones_shape(tiny_model_folder: Path) -> None:
    settings = ModelSettings(name=str(tiny_model_folder), device_map="cpu")
    shape = {n: (p.shape, p.device.type) for n, p in load_weightless(settings).named_parameters()}
    assert shape == {n: (p.shape, "meta") for n, p in load_model(settings).named_parameters()}


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_a_quantised_base_is_frozen_and_counts_what_it_stands_for(tmp_path: Path, quantization: str) -> None:
    from weitiao.methods._base import count_parameters

    whole = tiny_architectures.make_model("llama")
    whole.save_pretrained(tmp_path)
    settings = ModelSettings(name=str(tmp_path), quantization=quantization, device_map="cpu")
    model = load_model(settings)
    assert count_parameters(model) == (0, whole.num_parameters())
    assert count_parameters(load_weightless(settings))[1] == whole.num_parameters()


def test_a_four_bit_base_passes_gradients_after_an_evaluation(tmp_path: Path) -> None:
    """On a CPU with AVX512-bf16, bitsandbytes repacks the weights at the first evaluation, and these pass none."""
    from bitsandbytes.nn import Linear4bit

    tiny_architectures.make_model("llama", hidden_size=128, intermediate_size=128).save_pretrained(tmp_path)
    model = load_model(ModelSettings(name=str(tmp_path), quantization="nf4", device_map="cpu")).eval()
    layers = [m for m in model.modules() if isinstance(m, Linear4bit)]
    assert len(layers) == 21
    packed = [layer.weight.data.clone() for layer in layers]
    with torch.no_grad():
        model(tiny_architectures.ids())
    assert all(torch.equal(layer.weight.data, before) for layer, before in zip(layers, packed, strict=True))
    embeddings = model.get_input_embeddings().weight.requires_grad_()
    ids = tiny_architectures.ids()
    model.train()(ids, labels=ids).loss.backward()
    through_blocks = embeddings.grad.clone()
    assert through_blocks.any()
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


def test_a_cached_hub_model_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "models--owner--cached"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = resolve(ModelSettings(name="owner/cached"))
    assert (found.path, found.local) == ("owner/cached", False)


def test_an_alias_is_known_in_any_case_unless_a_folder_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ModelSettings(name="SmolLM2-135M").name == "smollm2-135m"
    (tmp_path / "SmolLM2-135M").mkdir()
    assert ModelSettings(name="SmolLM2-135M").name == "SmolLM2-135M"


def test_a_misspelt_folder_that_looks_like_a_hub_id_is_answered_with_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "orders").mkdir(parents=True)
    with pytest.raises(ModelError) as caught:
        resolve(ModelSettings(name="runs/ordres"))
    assert caught.value.problems[0].remedy.startswith("runs/orders or ")
