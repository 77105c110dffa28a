"""LLaMA-Adapter: begins as the base, PEFT's own numbers, checkpointing, generation, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

import tiny_architectures as tiny
from tiny_training import Events, make_examples, make_training
from weitiao.core.errors import ModelError
from weitiao.methods._base import count_parameters
from weitiao.methods._peft.attached import PeftAttached, load_adapter
from weitiao.methods.llama_adapter import LlamaAdapter
from weitiao.models.load import weightless

everywhere = pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])


def logits(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(tiny.ids()).logits


def train(attached: PeftAttached, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(attached.trainable().values(), lr=1e-1)
    attached.model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        attached.model(tiny.ids(), labels=tiny.ids()).loss.backward()
        optimizer.step()


def test_the_papers_count() -> None:
    """1.2M on a 7B: 10 prompts of 4096 and a gate in 30 blocks."""
    config = LlamaConfig(hidden_size=4096, num_hidden_layers=32, intermediate_size=64, vocab_size=100)
    assert count_parameters(LlamaAdapter().plan(weightless(config)).model)[0] == 30 * (10 * 4096 + 1)


@everywhere
def test_start_switch_off_checkpointing_save_and_refused_merge(architecture: str, tmp_path: Path) -> None:
    base = logits(tiny.make_model(architecture))
    torch.manual_seed(0)
    plain, checkpointed = (LlamaAdapter().attach(tiny.make_model(architecture)) for _ in range(2))
    assert torch.equal(logits(plain.model), base)
    for mine, other in zip(plain.trainable().values(), checkpointed.trainable().values(), strict=True):
        other.data.copy_(mine.data)
    checkpointed.model.gradient_checkpointing_enable({"use_reentrant": False})
    train(plain)
    train(checkpointed)
    trained = logits(plain.model)
    assert not torch.allclose(trained, base, atol=1e-3)
    torch.testing.assert_close(logits(checkpointed.model), trained)
    with plain.disabled():
        assert torch.equal(logits(plain.model), base)
    assert torch.equal(logits(plain.model), trained)
    plain.save(tmp_path)
    assert torch.equal(logits(load_adapter(tiny.make_model(architecture), tmp_path).model), trained)
    again = LlamaAdapter().continue_from(tiny.make_model(architecture), tmp_path)
    assert torch.equal(logits(again.model), trained)
    for attached in (plain, again):
        with pytest.raises(ModelError, match="cannot be merged into them"):
            attached.merge()


@everywhere
def test_padded_batches_with_the_cache_equal_single_rows_without(architecture: str) -> None:
    attached = LlamaAdapter().attach(tiny.make_model(architecture))
    train(attached)
    model, row = attached.model.eval(), tiny.ids(rows=1, length=5)
    seen = row
    with torch.no_grad():
        for _ in range(5):
            seen = torch.cat([seen, model(seen).logits[:, -1].argmax(-1)[None]], 1)
    padded = torch.cat([tiny.ids(rows=1), torch.cat([torch.zeros(1, 4, dtype=torch.long), row], 1)])
    mask = torch.ones_like(padded)
    mask[1, :4] = 0
    given = model.generate(
        input_ids=padded,
        attention_mask=mask,
        max_new_tokens=5,
        do_sample=False,
        eos_token_id=-1,
        pad_token_id=0,
    )
    assert given[1, 9:].tolist() == seen[0, 5:].tolist()


def test_it_learns_in_packs_with_the_rate_it_suggests(tmp_path: Path) -> None:
    events = Events()
    training = make_training(
        tmp_path, make_examples(2, seed=8), method={"name": "llama_adapter", "adapter_layers": 3},
        listeners=(events,), layers=3, steps=40, batch_size=2, scheduler="constant",
    )  # fmt: skip
    training.run()
    losses = [event["loss"] for event in events.of("step")]
    assert training.stepper.forward.options.packs
    assert losses[-1] < 0.95 * losses[0]


def test_what_it_cannot_apply_to_is_refused() -> None:
    with pytest.raises(ModelError, match="gpt2, llama, mistral"):
        LlamaAdapter().attach(tiny.make_model("opt"))
    with pytest.raises(ModelError, match="1 to 3"):
        LlamaAdapter(adapter_layers=4).attach(tiny.make_model("llama"))
