"""Freeze and full: which parameters train, by exact path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny_architectures as tiny
from tiny_methods import logits, train
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings, to_yaml
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._base import count_parameters
from weitiao.methods._peft.attached import load_adapter
from weitiao.methods.freeze import Freeze
from weitiao.methods.full import Full
from weitiao.models.load import load_model, weightless
from weitiao.models.precision import quantization_of
from weitiao.models.settings import ModelSettings


def plain(name: str) -> str:
    """Return a trained copy's name as the base's parameter has it."""
    return name.removeprefix("base_model.model.").replace("tuned_weights.default.", "").replace("/", ".")


def trained(architecture: str, **settings: object) -> set[str]:
    attached = Freeze(**settings).attach(weightless(tiny.make_config(architecture)))
    return {plain(name) for name in attached.trainable()}


def parameters(architecture: str) -> set[str]:
    return {name for name, _ in weightless(tiny.make_config(architecture)).named_parameters()}


@pytest.mark.parametrize(
    ("settings", "blocks"),
    [
        ({}, {1, 2}),
        ({"last_n": 1}, {2}),
        ({"first_n": 1}, {0}),
        ({"first_n": 1, "last_n": 1}, {0, 2}),
        ({"first_n": 2, "last_n": 2}, {0, 1, 2}),
        ({"blocks": [0, -1]}, {0, 2}),
        ({"last_n": 3}, {0, 1, 2}),
    ],
)
def test_blocks(settings: dict[str, Any], blocks: set[int]) -> None:
    wanted = {n for n in parameters("llama") if any(n.startswith(f"model.layers.{b}.") for b in blocks)}
    assert trained("llama", **settings) == wanted


def test_block_1_is_not_block_10() -> None:
    config = tiny.make_config("llama", num_hidden_layers=12)
    names = Freeze(blocks=[1]).attach(weightless(config)).trainable()
    assert {plain(name).split(".")[2] for name in names} == {"1"}


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
    for setting in ("last_n", "first_n"):
        with pytest.raises(ModelError, match=f"{setting}(.|\\n)*up to 3"):
            trained("llama", **{setting: 4})


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"last_n": 0}, "nothing is left"),
        ({"first_n": 0}, "nothing is left"),
        ({"last_n": 1, "blocks": [1]}, "last_n and first_n"),
        ({"first_n": 1, "blocks": [1]}, "last_n and first_n"),
        ({"last_n": -1}, "last_n"),
        ({"num_layer_trainable": 2}, "last_n"),
        ({"norms": "some"}, "final"),
    ],
)
def test_choices_that_cannot_be(raw: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_settings(Freeze, raw, "method")


@pytest.mark.parametrize("settings", [Freeze(), Freeze(blocks=[0]), Freeze(first_n=1, norms="final")])
def test_settings_read_back_as_written(settings: Freeze) -> None:
    import yaml

    assert parse_settings(Freeze, yaml.safe_load(to_yaml(settings))) == settings


def test_full_trains_everything_and_has_no_base_to_go_back_to() -> None:
    attached = Full().attach(tiny.make_model("qwen2"))
    assert set(attached.trainable()) == parameters("qwen2")
    with pytest.raises(ModelError, match="load the base separately"), attached.disabled():
        pass
    assert attached.merge() is attached.model


def test_a_half_precision_base_trains_in_fp32_and_switches_back_exactly() -> None:
    model = tiny.make_model("llama").bfloat16()
    base = model(tiny.ids()).logits.detach()
    attached = Freeze(last_n=1).attach(model)
    assert {p.dtype for p in attached.trainable().values()} == {torch.float32}
    assert torch.equal(attached.model(tiny.ids()).logits, base)
    train(attached)
    with attached.disabled():
        assert torch.equal(attached.model(tiny.ids()).logits, base)
    assert {p.dtype for p in attached.trainable().values()} == {torch.float32}
    wanted = logits(attached.model)
    assert wanted.dtype is torch.bfloat16
    assert not torch.equal(wanted, base)
    assert torch.equal(logits(attached.merge()), wanted)


def test_the_file_holds_the_trained_weights_themselves(tmp_path: Path) -> None:
    attached = Freeze(last_n=1, norms="final").attach(tiny.make_model("gemma"))
    train(attached)
    attached.save(tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    own = {plain(name): p for name, p in attached.trainable().items()}
    assert {n.replace("tuned_weights.", "").removeprefix("base_model.model.") for n in stored} == set(own)
    trained_count = count_parameters(attached.model)[0]
    merged = dict(attached.merge().named_parameters())
    assert all(torch.equal(merged[name], parameter) for name, parameter in own.items())
    assert sum(t.numel() for t in stored.values()) == trained_count > 0


def test_tied_embeddings_and_head_are_one_trained_matrix(tmp_path: Path) -> None:
    """A gradient step equals one on the base's own shared matrix, and merged they are still one."""
    reference = tiny.make_model("qwen2")
    reference.requires_grad_(False)
    shared = reference.model.embed_tokens.weight.requires_grad_(True)
    reference.train()
    reference(tiny.ids(), labels=tiny.ids()).loss.backward()

    attached = Freeze(last_n=0, embeddings=True).attach(tiny.make_model("qwen2"))
    base = logits(tiny.make_model("qwen2"))
    (copy,) = attached.trainable().values()
    attached.model.train()
    attached.model(tiny.ids(), labels=tiny.ids()).loss.backward()
    assert torch.equal(copy.grad, shared.grad)
    train(attached)
    wanted = logits(attached.model)
    attached.save(tmp_path)
    assert list(load_file(tmp_path / "adapter_model.safetensors")) == [
        "base_model.model.model.embed_tokens.tuned_weights.weight"
    ]
    loaded = load_adapter(tiny.make_model("qwen2"), tmp_path)
    assert torch.equal(logits(loaded.model), wanted)
    loaded.model.merge_adapter()
    assert torch.equal(logits(loaded.model), wanted)
    loaded.model.unmerge_adapter()
    with loaded.disabled():
        assert torch.equal(logits(loaded.model), base)
    merged = attached.merge()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert torch.equal(logits(merged), wanted)
    assert merged.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("mixtral", tiny.LLAMA_LIKE | {"num_local_experts": 2, "num_experts_per_tok": 1}),
        (
            "qwen3_next",
            tiny.LLAMA_LIKE
            | {
                "layer_types": ["full_attention", "linear_attention"],
                "num_hidden_layers": 2,
                "num_experts": 2,
                "num_experts_per_tok": 1,
                "moe_intermediate_size": 8,
                "shared_expert_intermediate_size": 8,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
            },
        ),
    ],
)
def test_weights_that_are_no_layer_of_their_own_train_too(
    architecture: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Experts hold stacks of matrices; a linear attention holds single ones beside its projections."""
    monkeypatch.setitem(tiny.SETTINGS, architecture, settings)
    last = f"model.layers.{settings['num_hidden_layers'] - 1}."
    base = tiny.make_model(architecture)
    attached = Freeze(last_n=1).attach(tiny.make_model(architecture))
    expected = {name for name, _ in base.named_parameters() if name.startswith(last)}
    assert {plain(name) for name in attached.trainable()} == expected
    assert torch.equal(logits(attached.model), logits(base))
    train(attached)
    attached.save(tmp_path)
    loaded = load_adapter(tiny.make_model(architecture), tmp_path)
    assert torch.equal(logits(loaded.model), logits(attached.model))
    assert torch.equal(logits(attached.merge()), logits(loaded.model))
    with loaded.disabled():
        assert torch.equal(logits(loaded.model), logits(base))


def test_two_at_once_are_refused_in_words(tmp_path: Path) -> None:
    for folder, settings in (("a", {"last_n": 1}), ("b", {"blocks": [-1]})):
        Freeze(**settings).attach(tiny.make_model("llama")).save(tmp_path / folder)
    both = load_adapter(tiny.make_model("llama"), tmp_path / "a")
    both.model.load_adapter(str(tmp_path / "b"), "b")
    both.model.base_model.set_adapter(["default", "b"])
    with pytest.raises(ValueError, match="only one adapter"):
        both.model(tiny.ids())


def test_it_does_not_load_on_a_base_in_few_bits(tmp_path: Path) -> None:
    tiny.make_model("llama").save_pretrained(tmp_path / "base")
    Freeze().attach(tiny.make_model("llama")).save(tmp_path / "adapter")
    with pytest.raises(ModelError, match="is quantised"):
        load_adapter(
            load_model(ModelSettings(name=str(tmp_path / "base"), quantization="nf4")), tmp_path / "adapter"
        )


def test_a_quantised_base_is_refused_by_its_config_alone() -> None:
    config = tiny.make_config("llama")
    config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    assert quantization_of(config) == "int8"
    for method in (Full(), Freeze()):
        with pytest.raises(ModelError, match="lora"):
            require_applicable(method, weightless(tiny.make_config("llama")), config)


def test_there_is_no_adapter_to_continue_from() -> None:
    with pytest.raises(ModelError, match=r"model\.name=folder"):
        Full().continue_from(tiny.make_model("llama"), Path("folder"))
