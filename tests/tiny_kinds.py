"""Tiny random models that are not decoder-only language models: classifiers, encoder-decoder, state space."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import tiny_architectures as tiny

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LAYERS = 2
SHARED = {"hidden_size": 32, "num_hidden_layers": LAYERS, "vocab_size": tiny.VOCABULARY, "pad_token_id": 0}
CLASSES = 3


def _llama_classifier() -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    return LlamaForSequenceClassification(
        LlamaConfig(**tiny.LLAMA_LIKE | {"num_hidden_layers": LAYERS}, num_labels=CLASSES)
    )


def _bert_classifier() -> PreTrainedModel:
    from transformers import BertConfig, BertForSequenceClassification

    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes = {"intermediate_size": 48, "num_attention_heads": 4, "num_labels": CLASSES}
    return BertForSequenceClassification(BertConfig(**SHARED, **sizes, **off))


def _t5() -> PreTrainedModel:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": LAYERS, "num_heads": 4, "dropout_rate": 0.0}
    tokens = {"vocab_size": tiny.VOCABULARY, "pad_token_id": 0, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(**sizes, **tokens))


def _mamba() -> PreTrainedModel:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(**SHARED, state_size=4))


MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama classifier": _llama_classifier,
    "bert classifier": _bert_classifier,
    "t5": _t5,
    "mamba": _mamba,
}


def make_model(kind: str) -> PreTrainedModel:
    """Return a tiny model with random fp32 weights, always the same."""
    return copy.deepcopy(_first(kind))


@cache
def _first(kind: str) -> PreTrainedModel:
    """Return the model that is copied, which takes half as long as building one."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MAKERS[kind]().float().eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def loss(kind: str, model: torch.nn.Module) -> torch.Tensor:
    """Return the model's own loss, for classification or language modelling."""
    import torch

    labels = torch.tensor([0, 2]) if "classifier" in kind else tiny.ids()
    return model(input_ids=tiny.ids(), labels=labels).loss


def logits(kind: str, model: torch.nn.Module) -> torch.Tensor:
    """Return the model's logits without dropout."""
    import torch

    model.eval()
    decoder = {"decoder_input_ids": tiny.ids()} if kind == "t5" else {}
    with torch.no_grad():
        return model(input_ids=tiny.ids(), **decoder).logits
