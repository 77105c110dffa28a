"""The share of the parameters that each method says it trains, counted on the shape of Llama-3.1-8B."""

from __future__ import annotations

import re

import pytest
from transformers import LlamaConfig

from tiny_methods import every_method, make
from weitiao.methods import METHODS
from weitiao.methods._base import count_parameters
from weitiao.models.load import weightless

# The card and config.json of meta-llama/Llama-3.1-8B.
LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, max_position_embeddings=131072, tie_word_embeddings=False,
)  # fmt: skip
ALL = 8_030_261_248
IN_THE_BLOCKS = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
"""Weights of all linear layers of the blocks."""
KEPT = {"p_tuning": 20 * 4096, "diff_pruning": 0.005 * IN_THE_BLOCKS}
"""What is left once trained, by hand: n embeddings of width d; half a percent of the chosen weights."""


def percent(count: float, of: float = ALL) -> str:
    """Write a share with two significant digits."""
    return f"{float(f'{100 * count / of:.2g}'):.10f}".rstrip("0").rstrip(".") + " %"


def test_the_base_counts_as_its_card_says() -> None:
    assert count_parameters(weightless(LLAMA_8B))[1] == ALL


@every_method
def test_the_share_is_the_counted_one(name: str) -> None:
    trained, everything = count_parameters(
        make(name).plan(weightless(LLAMA_8B)).model
    )  # as a run prints them
    share = METHODS.load(name).share
    first, *others = re.findall(r"[\d.]+ %", share)
    assert share.startswith(first)
    assert first == percent(trained, everything)
    assert others == [percent(kept) for of, kept in KEPT.items() if of == name]


@pytest.mark.parametrize(("name", "settings", "count"), [
    ("lora", {"r": 16, "target_modules": "all-linear"}, 41_943_040),
    ("lora", {"r": 8, "target_modules": "q_proj,v_proj"}, 32 * 8 * (4096 + 4096 + 4096 + 1024)),
])  # fmt: skip
def test_counts_that_others_print(name: str, settings: dict[str, object], count: int) -> None:
    attached = METHODS.load(name)(**settings).plan(weightless(LLAMA_8B))
    assert count_parameters(attached.model)[0] == count
