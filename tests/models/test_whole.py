"""A model folder that does not hold what its config needs is refused by name, and nothing of it is made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
import tiny_architectures
from weitiao.core.errors import ModelError
from weitiao.models.hubs.hub_code import without_hub_code
from weitiao.models.load import load_config, load_model, load_tokenizer, load_weightless
from weitiao.models.settings import ModelSettings

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
Weights = dict[str, Tensor]


def settings(folder: Path, **changes: Any) -> ModelSettings:  # noqa: ANN401
    return ModelSettings(name=str(folder), device_map="cpu", **changes)


@pytest.fixture
def folder(tmp_path: Path, tiny_model_folder: Path) -> Path:
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    path = tmp_path / "sharded"
    tiny.make_llama().save_pretrained(path, max_shard_size="40KB")
    tiny.make_tokenizer().save_pretrained(path)
    assert len(list(path.glob("model-*.safetensors"))) > 2
    return path


def rewrite(folder: Path, change: Callable[[Weights], object], name: str = "model.safetensors") -> None:
    weights = load_file(folder / name)
    change(weights)
    save_file({key: w.clone() for key, w in weights.items()}, folder / name, {"format": "pt"})


def describe(folder: Path, name: str = "config.json", **changes: Any) -> None:  # noqa: ANN401
    raw = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(raw | changes), encoding="utf-8")


def put(key: str, value: Tensor) -> Callable[[Weights], object]:
    return lambda weights: weights.update({key: value})


TAMPERED: dict[str, tuple[Callable[[Weights], object], str]] = {
    "a matrix missing": (lambda w: w.pop(Q_PROJ), rf"do not hold 1 of(.|\n)*{Q_PROJ}"),
    "a norm missing": (lambda w: w.pop("model.norm.weight"), r"model\.norm\.weight"),
    "the head missing": (lambda w: w.pop("lm_head.weight"), r"lm_head\.weight"),
    "a block missing": (
        lambda w: [w.pop(key) for key in list(w) if ".layers.1." in key],
        r"do not hold 9 of(.|\n)*and 4 more",
    ),
    "all missing but one": (lambda w: [w.pop(key) for key in list(w) if key != Q_PROJ], "do not hold 20 of"),
    "a matrix renamed": (lambda w: w.update({"q": w.pop(Q_PROJ)}), r"do not hold 1(.|\n)*no place for"),
    "all renamed": (lambda w: [w.update({f"x.{key}": w.pop(key)}) for key in list(w)], "do not hold 21 of"),
    "a value head besides": (put("v_head.weight", torch.ones(3)), r"no place for(.|\n)*v_head\.weight"),
    "a bias that the config has not": (
        put(Q_PROJ.replace("weight", "bias"), torch.ones(32)),
        r"no place for(.|\n)*q_proj\.bias",
    ),
    "an adapter among the weights": (put(f"{Q_PROJ}.lora_A", torch.ones(2, 32)), r"lora_A"),
    "a block more": (put(Q_PROJ.replace("0", "7"), torch.ones(32, 32)), r"no place for(.|\n)*layers\.7"),
    "another shape": (put("model.norm.weight", torch.ones(3)), r"other shapes(.|\n)*\[3\], not \[32\]"),
    "transposed": (lambda w: w.update({KEY: w[KEY].T.contiguous()}), r"other shapes(.|\n)*down_proj"),
    "a NaN": (lambda w: w[Q_PROJ].view(-1)[5].fill_(torch.nan), rf"NaN or inf(.|\n)*{Q_PROJ}"),
    "an inf": (lambda w: w["model.norm.weight"][3].fill_(-torch.inf), r"NaN or inf(.|\n)*model\.norm"),
    "gptq's names": (
        lambda w: w.update({Q_PROJ.replace("weight", "qweight"): w.pop(Q_PROJ).int()}),
        r"put quantization_config back",
    ),
}
KEY = "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize("label", TAMPERED)
def test_weights_that_are_not_the_models_are_refused_by_name(folder: Path, label: str) -> None:
    change, message = TAMPERED[label]
    rewrite(folder, change)
    with pytest.raises(ModelError, match=message):
        load_model(settings(folder))


def _swap(folder: Path) -> None:
    one, two, *_ = sorted(folder.glob("model-*.safetensors"))
    one.rename(folder / "kept")
    two.rename(one)
    (folder / "kept").rename(two)


def _omit(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    first = min(index["weight_map"].values())
    kept = {key: file for key, file in index["weight_map"].items() if file != first}
    (folder / "model.safetensors.index.json").write_text(json.dumps({**index, "weight_map": kept}))


def _repeat(folder: Path) -> None:
    one, two, *_ = sorted(folder.glob("model-*.safetensors"))
    rewrite(folder, lambda weights: weights.update(load_file(one)), two.name)


def _index(content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors.index.json").write_text(content)


def _first(folder: Path) -> Path:
    return min(folder.glob("model-*.safetensors"))


SHARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "swapped": (_swap, "not in the file that the index"),
    "left out of the index": (_omit, "do not hold"),
    "a tensor twice": (_repeat, "are in two weight files"),
    "a shard missing": (lambda f: _first(f).unlink(), "lacks 1 of its weight files"),
    "a shard cut": (
        lambda f: _first(f).write_bytes(_first(f).read_bytes()[:-9]),
        "not a complete safetensors",
    ),
    "a shard empty": (lambda f: _first(f).write_bytes(b""), "not a complete safetensors"),
    "a shard of text": (
        lambda f: _first(f).write_bytes(b"version https://git-lfs"),
        "not a complete safetensors",
    ),
    "no index but a list": (_index("[1]"), "index of the model's weight files cannot be read"),
    "an index cut": (_index('{"weight_map": {"a'), "index of the model's weight files cannot be read"),
    "an empty index": (_index('{"weight_map": {}}'), "index of the model's weight files cannot be read"),
    "files elsewhere": (_index('{"weight_map": {"a": "../b.safetensors"}}'), "cannot be read"),
    "numbers for files": (_index('{"weight_map": {"a": 5}}'), "cannot be read"),
}


@pytest.mark.parametrize("label", SHARDS)
def test_shards_that_do_not_agree_with_their_index_are_refused(sharded: Path, label: str) -> None:
    assert load_model(settings(sharded)).num_parameters() > 0
    tamper, message = SHARDS[label]
    tamper(sharded)
    with pytest.raises(ModelError, match=message):
        load_model(settings(sharded))


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "more blocks": ({"num_hidden_layers": 3}, "do not hold 9 of"),
    "fewer blocks": ({"num_hidden_layers": 1}, "no place for"),
    "a wider model": ({"intermediate_size": 80}, "other shapes"),
    "more words": ({"vocab_size": 5000}, "other shapes"),
    "biases": ({"attention_bias": True}, r"do not hold(.|\n)*bias"),
    "another architecture": ({"model_type": "gpt2"}, "."),
    "no architecture": ({"model_type": "nonsense"}, "config"),
    "sizes as words": ({"hidden_size": "many"}, "config"),
    "nothing for sizes": ({"num_attention_heads": None}, "."),
}


@pytest.mark.parametrize("label", CONFIGS)
def test_a_config_of_another_model_is_refused(folder: Path, label: str) -> None:
    changes, message = CONFIGS[label]
    describe(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(settings(folder))


@pytest.mark.parametrize("content", ["", "[]", "5", '{"model_type": 5}', "{" * 3000, "null"])
def test_a_config_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError):
        load_config(settings(folder))


def kind_of(dtype: torch.dtype) -> Callable[[Path], object]:
    """Return what stores a weight as not stored as floating-point numbers."""
    return lambda folder: rewrite(folder, lambda w: w.update({Q_PROJ: w[Q_PROJ].to(dtype)}))


def described_as(**changes: Any) -> Callable[[Path], object]:  # noqa: ANN401
    return lambda folder: describe(folder, **changes)


def generates(content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "generation_config.json").write_text(content)


BITSANDBYTES = {"quant_method": "bitsandbytes"}
STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "whole numbers": (kind_of(torch.int64), rf"not stored as floating-point numbers(.|\n)*{Q_PROJ}: I64"),
    "truth values": (kind_of(torch.bool), f"{Q_PROJ}: BOOL"),
    "complex numbers": (kind_of(torch.complex64), f"{Q_PROJ}: C64"),
    "4 bits said, none held": (
        described_as(quantization_config={**BITSANDBYTES, "load_in_4bit": True}),
        r"says that its weights are quantised, but \d+ of them are not",
    ),
    "8 bits said, none held": (
        described_as(quantization_config={**BITSANDBYTES, "load_in_8bit": True}),
        r"says that its weights are quantised, but \d+ of them are not",
    ),
    "no heads": (described_as(num_attention_heads=0), "cannot be used"),
    "no heads of keys": (described_as(num_key_value_heads=0), "no llama model can be built"),
    "no vocabulary": (described_as(vocab_size=0), "no llama model can be built"),
    "a pad beyond the vocabulary": (described_as(pad_token_id=99999), "no llama model can be built"),
    "unknown positions": (
        described_as(rope_parameters={"rope_type": "weird"}),
        "no llama model can be built",
    ),
    "positions in words": (
        described_as(rope_parameters={"rope_type": "default", "rope_theta": "x"}),
        "no llama model can be built",
    ),
    "an unknown activation": (described_as(hidden_act="nope"), "no llama model can be built"),
    "a precision in numbers": (described_as(dtype=5), "no llama model can be built"),
    "stops cut": (generates("{"), r"generation_config\.json of .* cannot be read"),
    "stops a list": (generates("[]"), r"generation_config\.json of .* cannot be read"),
}


@pytest.mark.parametrize("label", STRANGE)
def test_what_transformers_would_take_or_stumble_over_is_refused_in_words(folder: Path, label: str) -> None:
    assert load_model(settings(folder)).num_parameters() > 0
    tamper, message = STRANGE[label]
    tamper(folder)
    with pytest.raises(ModelError, match=message):
        load_weightless(settings(folder))
        load_model(settings(folder))


@pytest.mark.parametrize("content", ["", "[]", '{"model": 5}', '{"version": "1.0", "model": {"type": "X"}}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        load_tokenizer(settings(folder))


def test_a_model_beside_an_adapter_is_not_loaded_with_it(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="both a model and an adapter"):
        load_model(settings(folder))


def test_what_transformers_computes_ties_or_no_longer_needs_may_be_left_out(tmp_path: Path) -> None:
    tied = tmp_path / "tied"
    tiny_architectures.make_model("qwen2").save_pretrained(tied)
    rewrite(tied, put("model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4)))
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    model = load_model(settings(tied))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    describe(tied, tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        load_model(settings(tied))


@pytest.mark.parametrize("architecture", tiny_architectures.SETTINGS)
def test_what_an_architecture_saves_is_whole(tmp_path: Path, architecture: str) -> None:
    tiny_architectures.make_model(architecture).save_pretrained(tmp_path / "model")
    assert load_model(settings(tmp_path / "model")).config.model_type == architecture


def test_a_base_saved_in_4_bits_is_whole_and_without_its_description_refused(
    tmp_path: Path, folder: Path
) -> None:
    load_model(settings(folder, quantization="nf4")).save_pretrained(tmp_path / "nf4")
    assert load_model(settings(tmp_path / "nf4")).is_loaded_in_4bit
    raw = json.loads((tmp_path / "nf4" / "config.json").read_text())
    del raw["quantization_config"]
    (tmp_path / "nf4" / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ModelError, match="put quantization_config back"):
        load_model(settings(tmp_path / "nf4"))


FOREIGN = {
    "gptq": "gptqmodel", "awq": "gptqmodel", "compressed-tensors": "compressed-tensors", "hqq": "hqq",
    "aqlm": "aqlm", "quanto": "optimum-quanto", "vptq": "vptq", "torchao": "torchao",
}  # fmt: skip


@pytest.mark.parametrize("method", FOREIGN)
def test_a_foreign_quantisation_names_the_package_it_needs(folder: Path, method: str) -> None:
    describe(folder, quantization_config={"quant_method": method, "bits": 4, "group_size": 128})
    with pytest.raises(ModelError, match=rf"quantised with {method}(.|\n)*pip install {FOREIGN[method]}"):
        load_config(settings(folder))


@pytest.mark.parametrize("described", [{"quant_method": "exl9"}, {"bits": 4}])
def test_an_unknown_quantisation_is_refused(folder: Path, described: dict[str, Any]) -> None:
    describe(folder, quantization_config=described)
    with pytest.raises(ModelError, match="an unknown quantisation"):
        load_config(settings(folder))


def test_fp8_is_read_by_its_own_loader(folder: Path) -> None:
    plain = load_model(settings(folder))

    def to_fp8(weights: Weights) -> None:
        for key in [key for key in weights if key.endswith("_proj.weight")]:
            scale = weights[key].abs().max() / 400
            weights[key] = (weights[key] / scale).to(torch.float8_e4m3fn)
            weights[key + "_scale_inv"] = scale.reshape(1, 1)

    rewrite(folder, to_fp8)
    describe(folder, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
    read = load_model(settings(folder))
    weight, wanted = (model.get_parameter(Q_PROJ).float() for model in (read, plain))
    torch.testing.assert_close(weight, wanted, atol=0.01, rtol=0.1)


@pytest.mark.parametrize(
    "named",
    [
        {"attn_implementation": "kernels-community/flash-attn2"},
        {"attn_implementation": {"": "owner/kernel@main:f"}},
        {"_attn_implementation": "owner/kernel"},
        {"attn_implementation": "flash_attention_2"},
        {"attn_implementation": "paged|owner/kernel"},
        {"experts_implementation": "owner/kernel"},
        {"experts_implementation": "sonicmoe"},
    ],
    ids=str,
)
def test_a_kernel_that_a_config_names_is_not_fetched(folder: Path, named: dict[str, Any]) -> None:
    describe(folder, **named)
    config = load_model(settings(folder)).config
    assert config._attn_implementation == "sdpa"
    assert config._experts_implementation in (None, "eager", "grouped_mm", "batched_mm")


def test_a_kernel_named_in_a_part_of_a_config_is_not_fetched() -> None:
    from transformers import Gemma3Config

    config = Gemma3Config(attn_implementation={"": "sdpa", "text_config": "owner/kernel"})
    assert config.text_config._attn_implementation == "owner/kernel"
    config = without_hub_code(config)
    assert config.text_config._attn_implementation is None
    assert config._attn_implementation == "sdpa"
