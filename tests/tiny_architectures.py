"""Tiny random models of many architectures, by name, for tests that must pass on all of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

VOCABULARY = 61

LLAMA_LIKE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

SETTINGS: dict[str, dict[str, object]] = {
    "llama": LLAMA_LIKE,
    "mistral": LLAMA_LIKE,
    "qwen2": LLAMA_LIKE | {"tie_word_embeddings": True},
    "qwen3": LLAMA_LIKE,
    "gemma": LLAMA_LIKE,
    "gemma2": LLAMA_LIKE,
    "gemma3_text": LLAMA_LIKE,
    "phi3": LLAMA_LIKE,
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64,
             "bos_token_id": 1, "eos_token_id": 2},
    "opt": {"vocab_size": VOCABULARY, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32},
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4},
}  # fmt: skip


def make_config(architecture: str, **changes: object) -> PretrainedConfig:
    """Return the config of a tiny model; dropout is off."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(architecture, **(SETTINGS[architecture] | changes))
    for key in ("attn_pdrop", "embd_pdrop", "resid_pdrop", "dropout", "hidden_dropout", "attention_dropout"):
        if key in config.to_dict():
            setattr(config, key, 0.0)
    return config


def make_model(architecture: str, seed: int = 0, **changes: object) -> PreTrainedModel:
    """Return a tiny model with random fp32 weights, biases and norms included, determined by `seed` alone."""
    key = (architecture, seed, repr(sorted(changes.items())))
    if key not in _FIRST:
        _FIRST[key] = _built(make_config(architecture, **changes), seed)
    return copy.deepcopy(_FIRST[key])


_FIRST: dict[tuple[str, int, str], PreTrainedModel] = {}
"""The models that are copied, which takes half as long as building one."""


def two_blocks(architecture: str) -> dict[str, object]:
    """Return the changes that leave a model two blocks of its three, for tests that its depth means nothing to."""
    return {"n_layer" if "n_layer" in SETTINGS[architecture] else "num_hidden_layers": 2}


def _built(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).float().eval()
        for parameter in model.parameters():
            # With the default std of 0.02 all logits are nearly equal, which hides faults; biases would all be zero.
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def ids(rows: int = 2, length: int = 9, seed: int = 0) -> torch.Tensor:
    """Return random token ids of shape (rows, length)."""
    import torch

    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
