"""Bottleneck adapters: counts from the papers, forward and gradient against their formulas, and where they sit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny_architectures as tiny
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings
from weitiao.methods._base import count_parameters
from weitiao.methods._peft.attached import PeftAttached, load_adapter
from weitiao.methods.adapter import Adapter
from weitiao.models.load import weightless

D, M, BLOCKS = 32, 5, 3


def attach(architecture: str = "llama", **settings: object) -> PeftAttached:
    torch.manual_seed(3)
    return Adapter(size=M, up_std=0.5, **settings).attach(tiny.make_model(architecture))


def loss(model: nn.Module) -> Tensor:
    return model(tiny.ids(), labels=tiny.ids()).loss


def adapters(attached: PeftAttached, path: str) -> list[Tensor]:
    """Return copies of W_down, b_down, W_up, b_up at a module."""
    layer = attached.model.get_submodule(f"base_model.model.{path}")
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    return [p.detach().clone().requires_grad_() for p in (down.weight, down.bias, up.weight, up.bias)]


def formula(weights: list[Tensor], h: Tensor, f: object = nn.functional.gelu) -> Tensor:
    w_down, b_down, w_up, b_up = weights
    return f(h @ w_down.T + b_down) @ w_up.T + b_up


REFERENCE = {
    ("llama", "houlsby"): ["self_attn.o_proj", "mlp.down_proj"],
    ("llama", "pfeiffer"): ["mlp.down_proj"],
    ("gpt2", "houlsby"): ["attn.c_proj", "mlp.c_proj"],
    ("opt", "pfeiffer"): ["fc2"],
    ("bloom", "houlsby"): ["self_attention.dense", "mlp.dense_4h_to_h"],
}
BLOCK = {
    "llama": "model.layers",
    "gpt2": "transformer.h",
    "opt": "model.decoder.layers",
    "bloom": "transformer.h",
}


@pytest.mark.parametrize(("architecture", "placement"), REFERENCE)
def test_forward_and_gradient_are_the_papers(architecture: str, placement: str) -> None:
    """y = h + W_up f(W_down h + b_down) + b_up, h being what the sublayer returns (Houlsby et al., section 2.1)."""
    attached = attach(architecture, placement=placement)
    reference = tiny.make_model(architecture)
    weights = {}
    for n in range(BLOCKS):
        for place in REFERENCE[architecture, placement]:
            path = f"{BLOCK[architecture]}.{n}.{place}"
            own = weights[path] = adapters(attached, path)
            reference.get_submodule(path).register_forward_hook(lambda _, __, h, own=own: h + formula(own, h))
    assert_same(attached, reference, weights)


def assert_same(attached: PeftAttached, reference: nn.Module, weights: dict[str, list[Tensor]]) -> None:
    assert len(attached.trainable()) == 4 * len(weights)
    mine, wanted = loss(attached.model), loss(reference)
    torch.testing.assert_close(mine, wanted)
    mine.backward()
    wanted.backward()
    for path, (w_down, b_down, w_up, b_up) in weights.items():
        layer = attached.model.get_submodule(f"base_model.model.{path}")
        down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
        torch.testing.assert_close([down.weight.grad, down.bias.grad], [w_down.grad, b_down.grad])
        torch.testing.assert_close([up.weight.grad, up.bias.grad], [w_up.grad, b_up.grad])


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bloom"])
def test_a_parallel_one_reads_what_the_feed_forward_reads(architecture: str) -> None:
    """y = FFN(x) + s (W_up f(W_down x + b_down) + b_up), x being normalised already (He et al., table 1)."""
    attached = attach(architecture, placement="parallel", activation="relu", scaling=4)
    reference = tiny.make_model(architecture)
    weights = {}
    for n in range(BLOCKS):
        path = f"{BLOCK[architecture]}.{n}.mlp"
        own = weights[path] = adapters(attached, path)
        reference.get_submodule(path).register_forward_hook(
            lambda _, x, y, own=own: y + 4 * formula(own, x[0], torch.relu)
        )
    assert_same(attached, reference, weights)


def test_houlsby_counts_2md_d_m_an_adapter() -> None:
    one = 2 * M * D + D + M
    assert count_parameters(attach(placement="houlsby").model)[0] == 2 * BLOCKS * one
    assert count_parameters(attach(placement="pfeiffer").model)[0] == BLOCKS * one
    assert count_parameters(attach(placement="parallel").model)[0] == BLOCKS * one
    norms = (2 * BLOCKS + 1) * D
    assert count_parameters(attach(train_norms=True).model)[0] == 2 * BLOCKS * one + norms


def test_houlsbys_share_on_bert_large_sized_blocks() -> None:
    """24 blocks of width 1024 at size 64: 48 (2 * 64 * 1024 + 1024 + 64) parameters beside the norms."""
    config = tiny.make_config("gpt2", n_embd=1024, n_layer=24, n_head=16)
    attached = Adapter(size=64).attach(weightless(config))
    assert count_parameters(attached.model)[0] == 48 * (2 * 64 * 1024 + 1024 + 64) == 6_343_680


def test_the_width_of_the_bottleneck() -> None:
    def size(**settings: object) -> int:
        shape = Adapter(**settings).attach(weightless(tiny.make_config("llama")))
        return next(iter(shape.trainable().values())).shape[0]

    assert (size(), size(reduction_factor=4), size(size=3), size(reduction_factor=99)) == (2, 8, 3, 1)


def test_the_start_and_the_norms() -> None:
    base = loss(tiny.make_model("llama"))
    assert torch.equal(loss(Adapter().attach(tiny.make_model("llama")).model), base)
    tiny_start = loss(Adapter(up_std=1e-2).attach(tiny.make_model("llama")).model)
    assert 0 < abs((tiny_start - base).item()) < 1e-1
    trained = attach(train_norms=True).trainable()
    assert (
        sum("layernorm" in name or name.endswith("norm.modules_to_save.default.weight") for name in trained)
        == 7
    )


def test_an_architecture_without_the_place_is_refused() -> None:
    with pytest.raises(ModelError, match=r"parallel[\s\S]*OPTForCausalLM[\s\S]*placement=pfeiffer"):
        Adapter(placement="parallel").attach(weightless(tiny.make_config("opt")))
    from transformers import MixtralConfig

    experts = MixtralConfig(**tiny.LLAMA_LIKE, num_local_experts=2)
    with pytest.raises(ModelError, match="no place for adapters"):
        Adapter().attach(weightless(experts))


@pytest.mark.parametrize(
    "wrong", [{"size": 4, "reduction_factor": 2}, {"size": 0}, {"scaling": 0}, {"up_std": -1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        parse_settings(Adapter, wrong, "method")


@pytest.mark.parametrize("placement", ["houlsby", "parallel"])
def test_merging_is_refused_with_the_reason_and_changes_nothing(placement: str, tmp_path: Path) -> None:
    attached = attach(placement=placement)
    before = loss(attached.model)
    attached.save(tmp_path)
    for one in (attached, load_adapter(tiny.make_model("llama"), tmp_path)):
        with pytest.raises(ModelError, match="cannot be merged into the base's weights"):
            one.merge()
        assert torch.equal(loss(one.model), before)


def test_it_generates_with_the_cache_as_without() -> None:
    model = attach().model.eval()
    ids = tiny.ids(rows=1)
    same = [
        model.generate(input_ids=ids, max_new_tokens=6, do_sample=False, use_cache=u) for u in (True, False)
    ]
    assert torch.equal(*same)
