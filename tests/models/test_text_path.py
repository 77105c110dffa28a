"""What a text passes through, found without weights: judged by hand on models where names mislead."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoConfig

import tiny_architectures as tiny
import tiny_experts as experts
from tiny_methods import train
from weitiao.core.errors import ModelError
from weitiao.methods.lora import Lora
from weitiao.models.anatomy import anatomy
from weitiao.models.precision import quantization_config
from weitiao.models.settings import ModelSettings
from weitiao.models.text_path import cache_shape, config_key, text_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def model_with_pictures() -> PreTrainedModel:
    """Return a language model of two blocks beside a tower for pictures, which holds more parameters."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
              "image_size": 28, "patch_size": 14, "vision_use_head": False}  # fmt: skip
    text = tiny.LLAMA_LIKE | {"num_hidden_layers": 2}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Gemma3ForConditionalGeneration(config).float().eval()


def decoder_alone() -> PreTrainedModel:
    """Return a decoder that keeps a cross-attention which nothing calls."""
    from transformers import BartConfig, BartForCausalLM

    sizes = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    config = BartConfig(vocab_size=tiny.VOCABULARY, is_encoder_decoder=False, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BartForCausalLM(config).float().eval()


@pytest.mark.parametrize("target_modules", ["auto", "all-linear", "q_proj,v_proj", ".*[qv]_proj"])
def test_no_adapter_lies_where_no_text_comes(target_modules: str) -> None:
    for model in (model_with_pictures(), decoder_alone()):
        attached = Lora(target_modules=target_modules).attach(model)
        names = set(attached.trainable())
        assert names and not any("vision" in name or "encoder_attn" in name for name in names)
        train(attached)
        assert all(p.grad is not None and p.grad.any() for p in attached.trainable().values())


def test_what_a_text_does_not_reach_is_said_or_refused() -> None:
    model = model_with_pictures()
    assert anatomy(model).blocks == tuple(f"model.language_model.layers.{n}" for n in range(2))
    sentences = Lora().left_out(model)
    assert len(sentences) == 1 and "a text does not pass through" in sentences[0] and "%" in sentences[0]
    with pytest.raises(ModelError, match=r"cannot change(.|\n)*fc1"):
        Lora(target_modules="q_proj,fc1").attach(model)


def test_a_router_returns_no_plain_tensor() -> None:
    model = experts.make_model("phimoe")
    routers = [path for path, _ in model.named_modules() if path.endswith("mlp.router")]
    assert len(routers) == 2 and anatomy(model).routers == tuple(routers)
    assert not any(text_path(model).gives_tensor(path) for path in routers)


def test_an_expert_that_all_pass_is_no_router_though_as_wide_as_there_are_experts() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = experts.SETTINGS["qwen2_moe"] | {"shared_expert_intermediate_size": 6}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2_moe", **sizes))
    assert {path.rpartition(".")[2] for path in anatomy(model).routers} == {"shared_expert_gate"}


def test_blocks_need_not_be_equal() -> None:
    parts = anatomy(experts.make_model("jamba"))
    assert parts.blocks == tuple(f"model.layers.{n}" for n in range(4))
    assert {path.rpartition(".")[2] for path in parts.unreachable} == {"x_proj", "dt_proj", "out_proj"}


def test_asking_changes_nothing_of_the_model() -> None:
    model = experts.make_model("mixtral")
    before = model.config.to_dict(), model.config._experts_implementation
    assert text_path(model).complete and cache_shape(model)
    assert (model.config.to_dict(), model.config._experts_implementation) == before
    assert not any(module._forward_hooks for module in model.modules())


def test_the_cache_has_the_heads_that_there_are() -> None:
    llama, mamba = cache_shape(tiny.make_model("llama")), cache_shape(experts.make_model("jamba"))
    assert llama and (llama.heads, llama.numbers) == (2, 8)
    assert mamba is None


def test_a_config_is_known_by_all_that_it_holds() -> None:
    """A change anywhere in it makes another key; where the model was read from makes none."""
    config = AutoConfig.for_model("llava")
    keys = [config_key(config)]
    config._name_or_path = "another folder"
    assert config_key(config) == config_key(copy.deepcopy(config)) == keys[0]
    config.tie_word_embeddings = not config.tie_word_embeddings
    keys.append(config_key(config))
    config.text_config.num_hidden_layers += 1
    keys.append(config_key(config))
    config.text_config.rope_parameters["rope_theta"] += 1
    keys.append(config_key(config))
    config.quantization_config = quantization_config(ModelSettings(name=".", quantization="nf4")).to_dict()
    keys.append(config_key(config))
    assert len(set(keys)) == 5


def test_what_was_found_is_known_of_every_model_of_that_config() -> None:
    found = text_path(tiny.make_model("llama"))
    assert text_path(tiny.make_model("llama").train()) is found
    assert text_path(tiny.make_model("llama", num_hidden_layers=2)) is not found
