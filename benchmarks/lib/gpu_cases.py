"""What benchmarks/gpu.py measures: models of known shapes with random weights, and rows of random ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from weitiao.data.example import Example

SEED = 0
Shape = dict[str, Any]


def shape_of(
    kind: str, hidden: int, layers: int, heads: tuple[int, int], mlp: int, vocabulary: int, **others: object
) -> Shape:
    """Return a config's numbers; `heads` are those of queries and those of keys and values."""
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
        **others,
    }


TIED = {"tie_word_embeddings": True}
SHAPES: dict[str, Shape] = {
    "SmolLM2-135M": shape_of("llama", 576, 30, (9, 3), 1536, 49152, **TIED),
    "Qwen2.5-0.5B": shape_of("qwen2", 896, 24, (14, 2), 4864, 151936, **TIED),
    "Qwen3-4B": shape_of("qwen3", 2560, 36, (32, 8), 9728, 151936, head_dim=128, **TIED),
    "Llama-3.1-8B": shape_of("llama", 4096, 32, (32, 8), 14336, 128256, tie_word_embeddings=False),
    "tiny": shape_of("qwen2", 64, 2, (4, 2), 128, 256, **TIED),
}
"""As in the config.json of each model, but for positions, of which no more are used."""


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    model: str
    length: int
    """Tokens of the longest row; the others have an eighth of it and more."""
    rows: int
    quantization: str = "none"
    header: int = 0
    """How many tokens all rows begin with, as under one system prompt."""
    compile: bool = False

    @property
    def name(self) -> str:
        """The case in a few words."""
        kinds = [
            *([self.quantization] if self.quantization != "none" else []),
            *(["shared prompt"] if self.header else []),
            *(["compiled"] if self.compile else []),
        ]
        return ", ".join([f"{self.model} {self.rows}x{self.length}", *kinds])

    @property
    def shape(self) -> Shape:
        """The numbers of the model's config."""
        return SHAPES[self.model]


CASES = [
    Case("Qwen2.5-0.5B", 512, 64),
    Case("Llama-3.1-8B", 2048, 8),
    Case("Qwen3-4B", 1024, 32),
    Case("SmolLM2-135M", 512, 64),
    Case("Qwen2.5-0.5B", 512, 64, header=192),
    Case("Llama-3.1-8B", 2048, 8, "nf4"),
    Case("Llama-3.1-8B", 512, 32),
    Case("Qwen2.5-0.5B", 512, 64, compile=True),
]
"""In the order of their weight: what the time does not suffice for comes last."""
TINY_CASES = [
    Case("tiny", 32, 6),
    Case("tiny", 32, 6, "nf4"),
    Case("tiny", 64, 6, header=24),
]


def make_rows(case: Case) -> list[Example]:
    """Return the rows of a step; the second half of what a row has to itself is trained."""
    generator = torch.Generator().manual_seed(SEED)
    shortest = case.header + (case.length - case.header) // 8
    lengths = torch.randint(shortest, case.length + 1, (case.rows,), generator=generator).tolist()
    lengths[0] = case.length
    vocabulary = int(case.shape["vocab_size"])
    header = torch.randint(3, vocabulary, (case.header,), generator=generator).tolist()
    rows = []
    for number, length in enumerate(lengths):
        own = torch.randint(3, vocabulary, (length - case.header,), generator=generator).tolist()
        first = case.header + (length - case.header) // 2
        weights = tuple(float(position >= first) for position in range(length))
        rows.append(Example.of((*header, *own), weights, f"random:{number + 1}"))
    return rows


def make_config(case: Case) -> PretrainedConfig:
    """Return the config of a case's model."""
    return AutoConfig.for_model(**case.shape)


def make_model(case: Case, device: torch.device) -> PreTrainedModel:
    """Return a model of random weights: bf16 on a GPU, fp32 on a CPU, its blocks' linears in 4 bits for nf4."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(SEED)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(make_config(case), dtype=dtype)
    if case.quantization == "nf4":
        _quantize(model, dtype)
    return model.requires_grad_(False)


def _quantize(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Put bitsandbytes' layers in place of the blocks' linears, as from_pretrained does."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for path, linear in list(model.model.layers.named_modules()):
        if isinstance(linear, nn.Linear):
            device = linear.weight.device
            layer = Linear4bit(
                linear.in_features, linear.out_features, linear.bias is not None, compute_dtype=dtype,
                quant_type="nf4", device="meta",
            )  # fmt: skip
            layer.weight = Params4bit(linear.weight.detach(), requires_grad=False, quant_type="nf4")
            layer.bias = linear.bias
            layer.support_avx512bf16_for_cpu = False  # as weitiao.models.load does, and for the same reason
            model.model.layers.set_submodule(path, layer.to(device))  # to() quantises
    model.is_loaded_in_4bit = True  # what PEFT asks
