"""Tiny random models of every causal architecture that transformers has, made by rules from its default settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

VOCABULARY = 400
WIDTH, HEADS, KEY_HEADS, HEAD_DIM, MLP, DEPTH, POSITIONS, WINDOW = 32, 4, 2, 8, 48, 4, 256, 24


def _all(names: str, value: object) -> dict[str, object]:
    return dict.fromkeys(names.split(), value)


SMALL: Mapping[str, object] = {
    **_all("vocab_size vocab_size_per_layer_input unpadded_vocab_size encoder_hash_byte_group_vocab", VOCABULARY),
    **_all("hidden_size n_embd d_model embedding_size word_embed_proj_dim emb_dim embedding_dim", WIDTH),
    **_all("input_embedding_size output_embedding_size attention_hidden_size lru_width dim_model_base", WIDTH),
    **_all("pronunciation_embed_dim shape_embed_dim router_hidden_size cross_attention_hidden_size", WIDTH),
    **_all("intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim dim_ff dff d_inner feed_forward_size", MLP),
    **_all("moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size ffn_hidden_size", MLP),
    **_all("intermediate_size_mlp dense_intermediate_size expert_ffn_hidden_size prompt_mid_dim", MLP),
    **_all("shared_experts_intermediate_size moe_shared_expert_intermediate_size", MLP),
    **_all("num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_blocks", DEPTH),
    **_all("num_encoder_layers num_decoder_layers num_layers_per_stack depth num_hidden_blocks", DEPTH),
    **_all("num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads", HEADS),
    **_all("decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads index_n_heads", HEADS),
    **_all("linear_num_value_heads linear_num_heads swa_num_attention_heads", HEADS),
    **_all("num_key_value_heads linear_num_key_heads num_kv_heads swa_num_key_value_heads kv_n_heads", KEY_HEADS),
    **_all("head_dim kv_channels d_head dim_head attention_head_size linear_head_dim swa_head_dim", HEAD_DIM),
    **_all("linear_key_head_dim linear_value_head_dim qk_nope_head_dim v_head_dim index_head_dim", HEAD_DIM),
    **_all("qk_rope_head_dim qk_head_dim rotary_dim global_head_dim", HEAD_DIM),
    **_all("max_position_embeddings n_positions n_ctx max_seq_len model_max_length context_length", POSITIONS),
    **_all("max_target_positions max_source_positions original_max_position_embeddings rel_extent", POSITIONS),
    **_all("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
    **_all("num_experts_per_tok moe_topk num_experts_per_token moe_k top_k_experts moe_top_k", 2),
    **_all("n_group topk_group num_expert_group n_shared_experts num_shared_experts", 1),
    **_all("kv_lora_rank q_lora_rank o_lora_rank laurel_rank d_rel hc_lowrank gated_norm_rank adapter_rank", 16),
    **_all("mamba_d_state state_size ssm_state_size mamba_d_head mamba_head_dim hidden_size_per_layer_input", 8),
    **_all("mamba_n_heads mamba_num_heads n_mamba_heads", 8),
    **_all("time_step_rank mamba_dt_rank o_groups n_groups mamba_n_groups mamba_ngroups", 2),
    **_all("sliding_window attention_window_size window_size local_attention sliding_window_size", WINDOW),
    **_all("mamba_chunk_size chunk_size block_size attention_chunk_size block_multiple_of index_topk", 8),
    **_all("first_k_dense_replace num_dense_layers moe_layer_start_index", 1),
    **_all("num_buckets position_bias_num_buckets local_attn_chunk_length lsh_attn_chunk_length", 8),
    **_all("n_embed_vocab pronunciation_vocab_size shape_vocab_size ngram_vocab_size_base", 64),
    **_all("index_topk_blocks indexer_budget", 2),
    **_all("patch_size index_block_size", 4),
    **_all("image_size", 8),
}  # fmt: skip
"""Small values under the names that architectures give them; what is not here keeps its default."""
RANDOM = ("drop", "jitter")
"""What the settings of random draws are called."""
TOKENS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
"""Special tokens of the tests' tokenizer (tiny.make_tokenizer)."""
UNSET = frozenset({"sliding_window", "head_dim", "num_key_value_heads"})
"""What is made small even where the default is None."""
MIXER = {"mamba_n_heads": 8, "mamba_d_head": 8}
"""Heads of a state-space mixer that is twice as wide as the model."""
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
INDEXER = {
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
    "indexer_head_dim": HEAD_DIM,
    "indexer_kv_heads": 1,
    "indexer_n_heads": HEADS,
    "split_ngram_parts": 2,
}
ONCE: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3], **MIXER},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": dict.fromkeys(("sliding_attention", "full_attention"), ROPE),
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "dots3_note_text": {"per_layer_config": {}, "head_dim": 2 * HEAD_DIM},
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "num_experts_per_tok": 2,
    },
    "doge": {"keep_window_size": 16},
    "gemma3n_text": {
        "intermediate_size": MLP,
        "activation_sparsity_pattern": [0.0] * DEPTH,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "hrm_text": {"num_layers_per_stack": 2, "num_hidden_layers": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "falcon_h1": {"mamba_d_ssm": 64, **MIXER},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0}},
    "gpt_bigcode": {"num_key_value_heads": 1},  # as multi_query, its default, has it
    "hunyuan_v1_dense": {"head_dim": HEAD_DIM},
    "longcat_flash": {"zero_expert_num": 2, "num_layers": 2, "qk_head_dim": 16, "head_dim": 8},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "reformer": {"is_decoder": True, "axial_pos_shape": [8, 16], "axial_pos_embds_dim": [16, 16]},
    "xlm": {"causal": True},
    "xmod": {"default_language": "en_XX", "is_decoder": True},
    "zaya": {"num_experts_per_tok": 1},
}
"""What one architecture needs besides."""


NEVER = dict.fromkeys(
    ("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens")
)
"""What the defaults of some write into answers."""


def small_settings(config: PretrainedConfig) -> dict[str, Any]:
    """Return small settings in place of the defaults that `config` holds; lists of a value a layer are cut."""
    values = config.to_dict()
    depths = {v for k, v in values.items() if SMALL.get(k) == DEPTH and isinstance(v, int)}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in SMALL and (_is_size(value) or (value is None and name in UNSET)):
            found[name] = SMALL[name]
        elif isinstance(value, list) and len(value) in depths and len(value) > 2:
            found[name] = a_layer_each(value)
        elif isinstance(value, float) and any(word in name for word in RANDOM):
            found[name] = 0.0
    if "kv_lora_rank" in values:  # keys are compressed, so each head has its own
        found["num_key_value_heads"] = HEADS
    if values.get("is_decoder") is False and not config.is_encoder_decoder:
        found["is_decoder"] = True
    return found | {name: None for name in NEVER if values.get(name) is not None}


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def a_layer_each(values: Sequence[Any]) -> list[Any]:
    """Return DEPTH of the values, of each kind at least one where they are few."""
    kinds = [value for n, value in enumerate(values) if value not in values[:n]]
    return [kinds[n % len(kinds)] for n in range(DEPTH)]


def make_config(model_type: str) -> PretrainedConfig:
    """Return small settings of an architecture, with those of its parts."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return _config(CONFIG_MAPPING[model_type], ONCE.get(model_type, {}))


def _config(kind: type[PretrainedConfig], special: Mapping[str, object]) -> PretrainedConfig:
    default = kind()
    settings = small_settings(default)
    for name in kind.sub_configs:
        own = getattr(default, name, None)
        if own is not None:
            settings[name] = _config(type(own), special.get(name, {})).to_dict()
    settings |= {name: value for name, value in special.items() if name not in kind.sub_configs}
    return kind(**settings, **TOKENS)


def architectures() -> list[str]:
    """Return the model types of every causal architecture."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def make_model(model_type: str, seed: int = 0) -> PreTrainedModel:
    """Return a tiny model with random fp32 weights, biases and norms included, that `seed` alone decides."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(make_config(model_type)).float().eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model
