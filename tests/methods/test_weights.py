"""Freeze and full: which parameters train, by exact path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_architectures as tiny
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings, to_yaml
from weitiao.methods.freeze import Freeze
from weitiao.methods.full import Full
from weitiao.models.load import weightless
from weitiao.models.precision import quantization_of


def trained(architecture: str, **settings: object) -> set[str]:
    return set(Freeze(**settings).attach(weightless(tiny.make_config(architecture))).trainable())


def parameters(architecture: str) -> set[str]:
    return {name for name, _ in weightless(tiny.make_config(architecture)).named_parameters()}


@pytest.mark.parametrize(
    ("settings", "blocks"),
    [({}, {1, 2}), ({"last_n": 1}, {2}), ({"blocks": [0, -1]}, {0, 2}), ({"last_n": 3}, {0, 1, 2})],
)
def test_blocks(settings: dict[str, Any], blocks: set[int]) -> None:
    wanted = {n for n in parameters("llama") if any(n.startswith(f"model.layers.{b}.") for b in blocks)}
    assert trained("llama", **settings) == wanted


def test_block_1_is_not_block_10() -> None:
    config = tiny.make_config("llama", num_hidden_layers=12)
    names = Freeze(blocks=[1]).attach(weightless(config)).trainable()
    assert {name.split(".")[2] for name in names} == {"1"}


def test_the_final_norm_is_not_every_norm() -> None:
    """A name found as a substring, `norm`, would also train each block's input_layernorm."""
    assert trained("llama", last_n=0, norms="final") == {"model.norm.weight"}
    assert trained("gpt2", last_n=0, norms="final") == {"transformer.ln_f.weight", "transformer.ln_f.bias"}
    every = trained("llama", last_n=0, norms="all")
    assert len(every) == 7
    assert trained("llama", last_n=0, norms=True) == every


def test_embeddings_and_head() -> None:
    assert trained("llama", last_n=0, embeddings=True) == {"model.embed_tokens.weight"}
    assert trained("llama", last_n=0, head=True) == {"lm_head.weight"}
    assert trained("opt", last_n=0, embeddings=True) == {
        "model.decoder.embed_tokens.weight",
        "model.decoder.embed_positions.weight",
    }


def test_a_tied_head_does_not_train_alone() -> None:
    with pytest.raises(ModelError, match="one matrix"):
        trained("qwen2", head=True)
    assert trained("qwen2", last_n=0, head=True, embeddings=True) == {"model.embed_tokens.weight"}


def test_blocks_there_are_not() -> None:
    with pytest.raises(ModelError) as refusal:
        trained("gpt2", blocks=[0, 3, -4], head=True)
    assert len(refusal.value.problems) == 2
    assert "0 to 2" in str(refusal.value)
    with pytest.raises(ModelError, match="up to 3"):
        trained("llama", last_n=4)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"last_n": 0}, "nothing is left"),
        ({"last_n": 1, "blocks": [1]}, "choose one"),
        ({"last_n": -1}, "last_n"),
        ({"num_layer_trainable": 2}, "last_n"),
        ({"norms": "some"}, "final"),
    ],
)
def test_choices_that_cannot_be(raw: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_settings(Freeze, raw, "method")


@pytest.mark.parametrize("settings", [Freeze(), Freeze(blocks=[0]), Freeze(last_n=0, norms="final")])
def test_settings_read_back_as_written(settings: Freeze) -> None:
    import yaml

    assert parse_settings(Freeze, yaml.safe_load(to_yaml(settings))) == settings


def test_full_trains_everything_and_has_no_base_to_go_back_to() -> None:
    attached = Full().attach(tiny.make_model("qwen2"))
    assert set(attached.trainable()) == parameters("qwen2")
    with pytest.raises(ModelError, match="load the base beside it"), attached.disabled():
        pass
    assert attached.merge() is attached.model


def test_a_half_precision_base_trains_in_fp32_and_switches_back_exactly() -> None:
    model = tiny.make_model("llama").bfloat16()
    base = model(tiny.ids()).logits.detach()
    attached = Freeze(last_n=1).attach(model)
    assert {p.dtype for p in attached.trainable().values()} == {torch.float32}
    with attached.disabled():
        assert torch.equal(model(tiny.ids()).logits, base)
    assert {p.dtype for p in attached.trainable().values()} == {torch.float32}


def test_a_quantised_base_is_refused_by_its_config_alone() -> None:
    config = tiny.make_config("llama")
    config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    assert quantization_of(config) == "int8"
    for method in (Full(), Freeze()):
        with pytest.raises(ModelError, match="lora"):
            method.check(weightless(tiny.make_config("llama")), config)


def test_there_is_no_adapter_to_continue_from() -> None:
    with pytest.raises(ModelError, match=r"model\.name=folder"):
        Full().continue_from(tiny.make_model("llama"), Path("folder"))
