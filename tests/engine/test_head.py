"""The head taken out of a model: what the objective makes of hidden states is what the model itself gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

import tiny_architectures as tiny
from tiny_training import make_examples, sequence_of
from weitiao.data.batching.packing import make_pack
from weitiao.engine.forward import Forward
from weitiao.engine.optim.precision import Precision
from weitiao.engine.probe import choose_forward

SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": tiny.VOCABULARY, "pad_token_id": 0,
}  # fmt: skip
FACTORS = {"granite": ({"logits_scaling": 8.0}, 1 / 8), "cohere": ({"logit_scale": 0.0625}, 0.0625)}


def made(architecture: str, **settings: object) -> PreTrainedModel:
    config = AutoConfig.for_model(architecture, **{**SMALL, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).float().eval()


def plain_logits(model: torch.nn.Module, ids: tuple[int, ...]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits


@torch.no_grad()
def assert_same(forward: Forward) -> None:
    [example] = make_examples(1)
    with forward.attention():
        found = forward.outputs(make_pack([example])).logits_PV()
    one = sequence_of(example)
    wanted = [t for t, weight in enumerate(one.weights[1:]) if weight]
    torch.testing.assert_close(found, plain_logits(forward.model, one.ids)[wanted], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "opt", "gemma", "bloom"])
def test_a_plain_head_is_one_matrix(architecture: str) -> None:
    forward = choose_forward(tiny.make_model(architecture), Precision())
    assert forward.head is not None
    assert forward.head.weight_VD is forward.model.get_output_embeddings().weight  # type: ignore[operator]
    assert forward.head.factor == 1
    assert_same(forward)


@pytest.mark.parametrize("architecture", FACTORS)
def test_a_factor_on_the_logits_is_found(architecture: str) -> None:
    settings, factor = FACTORS[architecture]
    forward = choose_forward(made(architecture, **settings), Precision())
    assert forward.head is not None
    assert forward.head.factor == pytest.approx(factor)
    assert_same(forward)


@pytest.mark.parametrize("cap", [None, 0.05])
def test_a_cap_on_the_logits_is_found(cap: float | None) -> None:
    forward = choose_forward(made("gemma2", final_logit_softcapping=cap), Precision())
    assert forward.head is not None
    assert (forward.head.weight_VD is None) == (cap is not None)
    assert_same(forward)


def _square_the_logits(
    _: torch.nn.Module, __: object, output: CausalLMOutputWithPast
) -> CausalLMOutputWithPast:
    assert output.logits is not None
    output.logits = output.logits.square()
    return output


def test_what_a_model_does_besides_is_left_to_it() -> None:
    model = tiny.make_model("llama")
    model.register_forward_hook(_square_the_logits)
    forward = choose_forward(model, Precision())
    assert forward.head is None
    assert_same(forward)


def test_an_adapter_on_the_head_is_part_of_it() -> None:
    model = get_peft_model(tiny.make_model("gpt2"), LoraConfig(r=2, target_modules=["lm_head"]))
    forward = choose_forward(model, Precision())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    assert forward.head is not None
    assert forward.head.weight_VD is None
    assert_same(forward)
    with model.disable_adapter():
        assert_same(forward)
