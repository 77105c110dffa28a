"""Tiny random mixture-of-experts models of many architectures, by name."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING

from tiny_architectures import LLAMA_LIKE, VOCABULARY

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FEW = LLAMA_LIKE | {"num_hidden_layers": 2}
ROUTED = {"moe_intermediate_size": 24, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": None, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
          "num_key_value_heads": 4}  # fmt: skip
GROUPED = ROUTED | {"n_routed_experts": 6, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
                    "first_k_dense_replace": 1}  # fmt: skip
GRANITE = FEW | {"num_local_experts": 6, "num_experts_per_tok": 2}

SETTINGS: dict[str, dict[str, object]] = {
    "qwen2_moe": FEW | ROUTED | {"num_experts": 6, "shared_expert_intermediate_size": 40, "mlp_only_layers": [0]},
    "qwen3_moe": FEW | ROUTED | {"num_experts": 6},
    "mixtral": FEW | {"num_local_experts": 6},
    "gpt_oss": FEW | {"num_local_experts": 6, "num_experts_per_tok": 2, "layer_types": ["full_attention"] * 2},
    "deepseek_v2": FEW | LATENT | GROUPED | {"topk_method": "greedy"},
    "deepseek_v3": FEW | LATENT | GROUPED,
    "olmoe": FEW | {"num_experts": 6, "num_experts_per_tok": 2},
    "granitemoe": GRANITE,
    "granitemoeshared": GRANITE | {"shared_intermediate_size": 40},
    "phimoe": FEW | {"num_local_experts": 6},
    "llama4_text": FEW | {"num_local_experts": 6, "intermediate_size_mlp": 40, "attention_chunk_size": 64,
                          "interleave_moe_layer_step": 1},
    "ernie4_5_moe": FEW | ROUTED | {"moe_num_experts": 6, "moe_k": 2, "moe_layer_start_index": 1},
    "hunyuan_v1_moe": FEW | {"num_experts": 6, "moe_topk": 2},
    "glm4_moe": FEW | GROUPED,
    "dots1": FEW | GROUPED,
    "minimax": FEW | {"num_local_experts": 6, "layer_types": ["full_attention", "linear_attention"],
                      "block_size": 8},
    "jamba": FEW | {"num_experts": 6, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
                    "expert_layer_period": 2, "expert_layer_offset": 0, "mamba_d_state": 4, "mamba_dt_rank": 4,
                    "use_mamba_kernels": False},
    "jetmoe": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_key_value_heads": 2,
               "kv_channels": 8, "intermediate_size": 48, "num_local_experts": 6, "num_experts_per_tok": 2},
    "flex_olmo": FEW | {"num_experts": 6, "num_experts_per_tok": 2},
}  # fmt: skip


def make_config(architecture: str, **changes: object) -> PretrainedConfig:
    """Return the config of a tiny mixture-of-experts model with six experts per MoE layer, unless that is changed."""
    from transformers import AutoConfig

    return AutoConfig.for_model(architecture, **SETTINGS[architecture] | changes)


def make_model(architecture: str, **changes: object) -> PreTrainedModel:
    """Return a tiny mixture-of-experts model with random fp32 weights, always the same."""
    if changes:
        return _built(make_config(architecture, **changes))
    return copy.deepcopy(_first(architecture))


@cache
def _first(architecture: str) -> PreTrainedModel:
    """Return the model that is copied, which takes half as long as building one."""
    return _built(make_config(architecture))


def _built(config: PretrainedConfig) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).float().eval()
        for parameter in model.parameters():
            parameter.data = parameter.data.nan_to_num(0) * 0.5 + 0.1 * torch.randn_like(parameter)
    return model
