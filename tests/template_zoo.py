"""Small tokenizers whose templates differ in what breaks renderers: begin token, system, thoughts, blanks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

import tiny
from real_templates import REAL
from weitiao.data.conversation import Conversation, Message
from weitiao.data.templates import template_cache

if TYPE_CHECKING:
    from weitiao.data.conversation import Role

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}"
    "{% for message in rest %}"
    "{% if loop.first and system %}"
    "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
LLAMA3 = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
DROPS_THINKING = (
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' and not loop.last and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' "
    "+ message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def _bytes(specials: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(tiny.LINES, trainer)
    return tokenizer


def _blanks_as_signs(specials: Sequence[str]) -> Tokenizer:
    """A tokenizer like Llama 2's, which puts a blank before every text and has no token for a line break."""
    vocabulary = [*specials, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    vocabulary += [chr(code) for code in range(33, 127)]
    pairs = [("▁", letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary += [left + right for left, right in [("▁", "▁"), *pairs]]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    model = models.BPE(ids, [("▁", "▁"), *pairs], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    return tokenizer


def _made(
    tokenizer: Tokenizer,
    template: str | None,
    eos: str | None,
    begin: str | None = None,
    begins: bool = False,
) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer; with `begins` it puts its begin token before a text of its own accord."""
    if begin and begins:
        pair = (begin, tokenizer.token_to_id(begin))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[pair])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, bos_token=begin)
    made.chat_template = template
    return made


def made_of(
    specials: Sequence[str], template: str, eos: str, begin: str | None = None
) -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes with special tokens and a template; it puts `begin` before every text."""
    return _made(_bytes(specials), template, eos, begin, begin is not None)


@cache
def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Return one of `NAMES`, made once."""
    match name:
        case "chatml":
            return tiny.make_tokenizer()
        case "llama2":
            return _made(_blanks_as_signs(["<s>", "</s>"]), LLAMA2, "</s>", "<s>", True)
        case "llama3":
            words = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
            return _made(_bytes(words), LLAMA3, "<|eot_id|>", "<|begin_of_text|>", True)
        case "no_system":
            return _made(
                _bytes(["<bos>", "<start_of_turn>", "<end_of_turn>"]),
                NO_SYSTEM,
                "<end_of_turn>",
                "<bos>",
                True,
            )
        case "drops_thinking":
            made = _bytes(["<|im_start|>", "<|im_end|>"])
            made.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
            return _made(made, DROPS_THINKING, "<|im_end|>")
        case "begin_not_in_template":
            return _made(_blanks_as_signs(["<s>", "</s>"]), ZEPHYR, "</s>", "<s>", True)
        case "instruction":
            return _made(_bytes(["<s>", "</s>"]), None, "</s>", "<s>", True)
    own = REAL[name]
    made = _bytes(own.specials)
    made.add_tokens([AddedToken(tag, special=False) for tag in ("<think>", "</think>", "<tool_call>")])
    return _made(made, own.source, own.end, own.begin, own.begin is not None)


FIRST_NAMES = (
    "chatml",
    "llama2",
    "llama3",
    "no_system",
    "drops_thinking",
    "begin_not_in_template",
    "instruction",
)
NAMES = (*FIRST_NAMES, *REAL)


def talk(*contents: str, system: str = "", draws: float = 1.0) -> Conversation:
    """Make a conversation of questions and answers by turns."""
    roles: tuple[Role, Role] = ("user", "assistant")
    spoken = [Message(roles[number % 2], content) for number, content in enumerate(contents)]
    return Conversation((*([Message("system", system)] if system else []), *spoken), "talk:1", draws)


def dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return messages as transformers takes them."""
    return [{"role": message.role, "content": message.content} for message in messages]


@contextmanager
def without_plans() -> Iterator[None]:
    """Let a template that is made and asked in here render every row itself, as the first of its shape."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template_cache, "MOST_SHAPES", 0)
        yield
