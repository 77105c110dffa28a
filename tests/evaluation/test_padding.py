"""Which models take padded prompts: what a probe sees, what only a rule knows, and how prompts are put together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny_architectures as tiny
from tiny_methods import make
from weitiao.data.conversation import Prompt
from weitiao.evaluation.padding import BATCH_PROMPTS, batches, takes_padding

LENGTHS = (7, 3, 3, 9, 3, 5, 7, 3, 3, 3, 3, 3, 3, 3)


def prompts(lengths: tuple[int, ...]) -> list[Prompt]:
    return [Prompt(tuple(range(3, 3 + length))) for length in lengths]


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2", "bloom", "opt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_mask_padding_take_it(architecture: str, dtype: torch.dtype) -> None:
    assert takes_padding(tiny.make_model(architecture).to(dtype))


def test_positions_that_count_padding_are_seen() -> None:
    """A decoder of BART's counts positions from the row's beginning, whatever the mask says."""
    from transformers import BartConfig, BartForCausalLM

    sizes = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    torch.manual_seed(0)
    model = BartForCausalLM(BartConfig(vocab_size=61, max_position_embeddings=64, **sizes)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    assert not takes_padding(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
        {"attention_chunk_size": 8192},
        {"index_topk": 2048},
        {"keep_window_size": 2048},
    ],
)
def test_what_shows_in_long_rows_only_is_known_by_rule(changes: dict[str, object]) -> None:
    assert not takes_padding(tiny.make_model("llama", **changes))


def test_virtual_tokens_take_no_padding_behind_them() -> None:
    attached = make("prefix_tuning").attach(tiny.make_model("llama"))
    attached.model.eval()
    assert not takes_padding(attached.model)
    with attached.disabled():
        assert takes_padding(attached.model)


@pytest.mark.parametrize(("method", "lengths_together"), [("lora", True), ("prompt_tuning", False)])
def test_each_prompt_is_in_one_batch(method: str, lengths_together: bool) -> None:
    model: nn.Module = make(method).attach(tiny.make_model("llama")).model.eval()
    made = prompts(LENGTHS)
    found = list(batches(model, made))
    assert sorted(index for batch in found for index in batch) == list(range(len(made)))
    assert all(len(batch) <= BATCH_PROMPTS for batch in found)
    mixed = [batch for batch in found if len({LENGTHS[index] for index in batch}) > 1]
    assert bool(mixed) is lengths_together


def test_equal_lengths_ask_nothing_of_the_model() -> None:
    assert list(batches(nn.Module(), prompts((4,) * 10))) == [list(range(8)), [8, 9]]
