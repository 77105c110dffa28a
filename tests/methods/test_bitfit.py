"""BitFit: against training the biases themselves, which biases, added ones, and where they can be merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny_architectures as tiny
from weitiao.core.errors import ModelError, SettingsError
from weitiao.core.settings import parse_settings
from weitiao.methods._base import count_parameters
from weitiao.methods.bitfit import Bitfit
from weitiao.models.load import weightless


def logits(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(tiny.ids()).logits


def layers(architecture: str, **settings: object) -> set[str]:
    names = Bitfit(**settings).attach(weightless(tiny.make_config(architecture))).trainable()
    return {name.removeprefix("base_model.model.").removesuffix(".bitfit_bias.default") for name in names}


def descend(model: torch.nn.Module, parameters: list[torch.nn.Parameter], steps: int = 3) -> None:
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        model(tiny.ids(), labels=tiny.ids()).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "bloom"])
def test_it_is_gradient_descent_on_the_biases_themselves(architecture: str) -> None:
    """Section 3 of the paper: every parameter called bias trains, all else is frozen."""
    reference = tiny.make_model(architecture)
    biases = {n: p for n, p in reference.named_parameters() if n.endswith("bias")}
    reference.requires_grad_(False)
    for parameter in biases.values():
        parameter.requires_grad_(True)
    attached = Bitfit().attach(tiny.make_model(architecture))
    assert count_parameters(attached.model)[0] == sum(p.numel() for p in biases.values())
    descend(reference, list(biases.values()))
    descend(attached.model, list(attached.trainable().values()))
    torch.testing.assert_close(logits(attached.model), logits(reference), atol=1e-5, rtol=1e-5)
    merged = dict(attached.merge().named_parameters())
    for name, parameter in biases.items():
        torch.testing.assert_close(merged[name], parameter, atol=1e-5, rtol=1e-5)


def test_the_parts() -> None:
    block = "transformer.h.1."
    mine = {
        kind: {n for n in layers("gpt2", targets=kind) if n.startswith(block)}
        for kind in ("attention", "mlp", "norms")
    }
    assert mine["attention"] == {f"{block}attn.c_attn", f"{block}attn.c_proj"}
    assert mine["mlp"] == {f"{block}mlp.c_fc", f"{block}mlp.c_proj"}
    assert mine["norms"] == {f"{block}ln_1", f"{block}ln_2"}
    everything = layers("gpt2")
    assert everything == set().union(*(layers("gpt2", targets=kind) for kind in mine))
    assert "transformer.ln_f" in everything
    assert {n.rpartition(".")[2] for n in layers("qwen2")} == {"q_proj", "k_proj", "v_proj"}


def test_without_biases_it_says_so_and_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"no bias terms[\s\S]*LlamaForCausalLM[\s\S]*method.add_bias=true"):
        Bitfit().attach(weightless(tiny.make_config("llama")))
    with pytest.raises(ModelError, match="no bias terms in its mlp"):
        Bitfit(targets="mlp").attach(weightless(tiny.make_config("qwen2")))
    with pytest.raises(ModelError, match="norms") as refusal:
        Bitfit(targets="norms").attach(weightless(tiny.make_config("llama")))
    assert "add_bias=true" not in str(refusal.value)
    with pytest.raises(SettingsError, match="linear layers"):
        parse_settings(Bitfit, {"targets": "norms", "add_bias": True}, "method")


@pytest.mark.parametrize("targets", ["all", "attention", "mlp"])
def test_added_biases_merge_into_a_plain_llama(targets: str, tmp_path: Path) -> None:
    base = logits(tiny.make_model("llama"))
    attached = Bitfit(add_bias=True, targets=targets).attach(tiny.make_model("llama"))
    assert torch.equal(logits(attached.model), base)
    descend(attached.model, list(attached.trainable().values()))
    trained = logits(attached.model)
    assert not torch.allclose(trained, base, atol=1e-3)
    merged = attached.merge()
    assert (merged.config.attention_bias, merged.config.mlp_bias) == (
        targets != "mlp",
        targets != "attention",
    )
    merged.save_pretrained(tmp_path)
    read = logits(AutoModelForCausalLM.from_pretrained(tmp_path))
    torch.testing.assert_close(read, trained, atol=1e-5, rtol=0)


def test_added_biases_count_one_for_each_output() -> None:
    """Per block of the tiny Llama: q 32, k 16, v 16, o 32, gate 48, up 48, down 32."""
    attached = Bitfit(add_bias=True).attach(weightless(tiny.make_config("llama")))
    assert count_parameters(attached.model)[0] == 3 * (32 + 16 + 16 + 32 + 48 + 48 + 32)


@pytest.mark.parametrize("architecture", ["qwen2", "gemma"])
def test_where_no_plain_model_can_hold_them_merging_is_refused(architecture: str) -> None:
    attached = Bitfit(add_bias=True).attach(tiny.make_model(architecture))
    descend(attached.model, list(attached.trainable().values()), steps=1)
    before = logits(attached.model)
    with pytest.raises(ModelError, match="no plain model can hold them"):
        attached.merge()
    assert torch.equal(logits(attached.model), before)


def test_peft_itself_merges_and_unmerges() -> None:
    attached = Bitfit(add_bias=True).attach(tiny.make_model("llama"))
    descend(attached.model, list(attached.trainable().values()))
    trained = logits(attached.model)
    attached.model.merge_adapter()
    torch.testing.assert_close(logits(attached.model), trained, atol=1e-5, rtol=0)
    attached.model.unmerge_adapter()
    torch.testing.assert_close(logits(attached.model), trained, atol=1e-5, rtol=0)
