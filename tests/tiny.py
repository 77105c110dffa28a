"""Makers of models and tokenizers small enough for a test: from a config, no download, always the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

LINES = (
    "Who are you? I am a small model, trained in a test.",
    "What is LoRA? It adds two thin matrices to a frozen layer and trains only them.",
    "The quick brown fox jumps over the lazy dog, 0123456789 times.",
    "你是谁？我是一个在测试里训练出来的小模型。",
    "今天天气很好，我们去公园散步吧。",
    "阴阳五行是中医理论的基础，望闻问切合称四诊。",
    "### Instruction:\nSay hello.\n\n### Response:\nHello!",
)
"""What the test tokenizer learns its merges from."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The ChatML template, as SmolLM2 has it but without a default system message."""


def make_tokenizer(vocab_size: int = 400, chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on a few lines; pad, eos and end of turn are one token, as in the bundled alias.

    Any text decodes back unchanged (bytes are the alphabet). `chat_template=None` makes a base's tokenizer.
    """
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=_byte_level_bpe(vocab_size),
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = chat_template
    return made


def _byte_level_bpe(vocab_size: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


@cache
def vocabulary_size() -> int:
    """Return the size of the vocabulary that `make_tokenizer()` comes to."""
    return len(make_tokenizer())


def make_llama(
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    vocab_size: int | None = None,
    seed: int = 0,
) -> LlamaForCausalLM:
    """Build a Llama with random fp32 weights that `seed` alone decides; torch's random state stays."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size or vocabulary_size(),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float().eval()


def make_answering(answer: str = "Hello!") -> LlamaForCausalLM:
    """Build a Llama that answers the same to every question in `make_tokenizer`'s template, and is sure of it.

    Its blocks change next to nothing, and its head gives after each token of the answer the next one.
    """
    import torch

    model, tokenizer = make_llama(), make_tokenizer()
    asked = tokenizer.apply_chat_template([{"role": "user", "content": ""}], add_generation_prompt=True)
    chain = [asked["input_ids"][-1], *tokenizer.encode(answer), tokenizer.eos_token_id]
    if len(set(chain)) < len(chain):
        raise ValueError(f"a token comes twice in {answer!r}, so what follows it is not known")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= 1e-3
            layer.mlp.down_proj.weight *= 1e-3
        embedding = torch.nn.functional.normalize(model.get_input_embeddings().weight, dim=1)
        model.lm_head.weight.zero_()
        model.lm_head.weight[chain[1:]] = 10 * embedding[chain[:-1]]
    return model


def save_tiny_model(folder: Path, *, hidden: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Write a tiny Llama and its ChatML tokenizer into `folder`, for `from_pretrained`; return `folder`."""
    make_llama(hidden=hidden, layers=layers, seed=seed).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
