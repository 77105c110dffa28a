"""Prefixes before attention that keeps one head of keys and values for all queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tiny_methods import logits, make, train
from weitiao.methods._peft.attached import load_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MULTI_QUERY: dict[str, dict[str, object]] = {
    "falcon": {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
               "multi_query": True, "alibi": False},
    "gpt_bigcode": {"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
                    "multi_query": True, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
}  # fmt: skip


def made(architecture: str) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(architecture, bos_token_id=1, eos_token_id=2, **MULTI_QUERY[architecture])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).float().eval()


@pytest.mark.parametrize("architecture", MULTI_QUERY)
@pytest.mark.parametrize("name", ["prefix_tuning", "p_tuning_v2"])
def test_a_prefix_has_as_many_heads_as_the_cache(name: str, architecture: str, tmp_path: Path) -> None:
    attached = make(name).attach(made(architecture))
    assert (attached.model.active_peft_config.num_attention_heads, attached.virtual_tokens) == (1, 0)
    train(attached)
    wanted = logits(attached.model)
    assert not torch.allclose(wanted, logits(made(architecture)), atol=1e-3)
    attached.save(tmp_path)
    assert torch.equal(logits(load_adapter(made(architecture), tmp_path).model), wanted)
