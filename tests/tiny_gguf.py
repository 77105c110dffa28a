"""Writes a GGUF file small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from transformers import LlamaForCausalLM

import tiny

F16, Q4_1 = gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q4_1


def save_tiny_gguf(
    path: Path,
    kind: gguf.GGMLQuantizationType = F16,
    model: LlamaForCausalLM | None = None,
    named_size: bool = True,
) -> Path:
    """Write a tiny Llama with llama.cpp's tensor names and layout, matrices stored as `kind`; return `path`.

    Without `named_size` only the list of tokens says how many there are.
    """
    model, tokenizer = model or tiny.make_llama(), tiny.make_tokenizer()
    writer = gguf.GGUFWriter(path, "llama")
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    if named_size:
        writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|im_") else 1 for token in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(0)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        leaf = name.split(".")[-2]
        if leaf in heads:  # llama.cpp interleaves the two halves of each rotary head
            shape = (heads[leaf], 2, array.shape[0] // heads[leaf] // 2, array.shape[1])
            array = array.reshape(shape).swapaxes(1, 2).reshape(array.shape)
        stored = gguf.GGMLQuantizationType.F32 if array.ndim == 1 else kind
        packed = gguf.quants.quantize(np.ascontiguousarray(array), stored)
        writer.add_tensor(names.get_name(name, (".weight",)), packed, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
