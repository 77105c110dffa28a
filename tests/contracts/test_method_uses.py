"""What every method promises about use: half precision, switching adapters, resuming, going on, generating."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import tiny
import tiny_architectures
from tiny_methods import REFUSED, every_method, logits, make, some_pairs, train
from tiny_training import Events, equal, last_state, make_examples, make_training, weights_of
from weitiao.core.errors import ModelError
from weitiao.data.conversation import Message
from weitiao.data.example import Example
from weitiao.data.templates.template import choose_template
from weitiao.engine.checkpoint import list_checkpoints
from weitiao.engine.loop import Training
from weitiao.engine.optim.precision import Precision
from weitiao.evaluation.generate import generate
from weitiao.evaluation.settings import GenerationSettings
from weitiao.methods import METHODS
from weitiao.methods._base import Attached
from weitiao.methods._peft.attached import load_adapter

STEPS, STOPPED_AFTER = 12, 8
"""AdaLoRA warms up, allots and settles within these; diff pruning prunes after the ninth."""


def attach(name: str, architecture: str = "llama", seed: int = 0) -> Attached:
    torch.manual_seed(seed)
    return make(name).attach(tiny_architectures.make_model(architecture))


@some_pairs(1)
def test_it_trains_under_bf16_autocast(name: str, architecture: str) -> None:
    for base in (
        tiny_architectures.make_model(architecture),
        tiny_architectures.make_model(architecture).bfloat16(),
    ):
        attached = make(name).attach(base)
        with Precision(torch.bfloat16).autocast(torch.device("cpu")):
            train(attached)
        gradients = [p.grad for p in attached.trainable().values()]
        assert all(g is not None and g.dtype is torch.float32 and g.isfinite().all() for g in gradients)


@every_method
def test_two_adapters_live_on_one_base_and_switch(name: str, tmp_path: Path) -> None:
    wanted = []
    for seed in (1, 2):
        attached = attach(name, seed=seed)
        train(attached, steps=seed)
        attached.save(tmp_path / str(seed))
        wanted.append(logits(attached.model))
    if attached.saves_whole_model:
        return
    assert not torch.equal(*wanted)
    both = load_adapter(tiny_architectures.make_model("llama"), tmp_path / "1")
    both.model.load_adapter(str(tmp_path / "2"), "second")
    for adapter, expected in (("second", wanted[1]), ("default", wanted[0])):
        both.model.set_adapter(adapter)
        assert torch.equal(logits(both.model), expected)
    with both.disabled():
        assert torch.equal(logits(both.model), logits(tiny_architectures.make_model("llama")))


@every_method
def test_a_saved_adapter_is_trained_further(name: str, tmp_path: Path) -> None:
    attached = attach(name)
    train(attached)
    attached.save(tmp_path / "first")
    wanted = logits(attached.model)
    base = tiny_architectures.make_model("llama")
    try:
        again = make(name).continue_from(base, tmp_path / "first")
    except ModelError as refusal:
        assert "expected" in str(refusal)
        assert attached.saves_whole_model or name in CANNOT_GO_ON
        return
    assert torch.equal(logits(again.model), wanted)
    train(again)
    again.save(tmp_path / "second")
    loaded = load_adapter(tiny_architectures.make_model("llama"), tmp_path / "second").model
    assert torch.equal(logits(loaded), logits(again.model))


CANNOT_GO_ON = {"p_tuning"}
"""Their encoders are not saved with what they made."""


def training(name: str, folder: Path) -> Training:
    method = {"name": name, **METHODS.load(name).example}
    settings = {
        "lr": 1e-2,
        "steps": STEPS,
        "batch_size": 3,
        "save_every": STOPPED_AFTER,
        "keep_checkpoints": 2,
    }
    return make_training(folder, make_examples(9, seed=2), method=method, **settings)


@every_method
def test_a_resumed_run_is_bit_exact(name: str, tmp_path: Path) -> None:
    straight = training(name, tmp_path / "straight")
    straight.run()
    saved = {path.name: path for path in list_checkpoints(tmp_path / "straight" / "checkpoints")}
    resumed = training(name, tmp_path / "resumed")
    resumed.resume(saved[f"step-{STOPPED_AFTER:08d}"])
    assert resumed.progress.step == STOPPED_AFTER
    resumed.run()
    assert equal(weights_of(resumed), weights_of(straight))
    assert last_state(tmp_path / "resumed") == last_state(tmp_path / "straight")


@every_method
def test_it_learns_with_the_rate_it_suggests(name: str, tmp_path: Path) -> None:
    """Twenty steps on one example lower its loss; tests/recipe/test_learns.py asks more, and is slow."""
    ids, heard = (
        (14, 30, 16, 5, 18, 41, 16, 9),
        Events(),
    )  # among them those whose rows trainable_tokens trains
    make_training(
        tmp_path,
        [Example.of(ids, (0.0,) * 4 + (1.0,) * 4, "rows.json:1")],
        method={"name": name, **METHODS.load(name).example},
        listeners=(heard,),
        steps=20,
        batch_size=1,
        scheduler="constant",
    ).run()
    losses = [event["loss"] for event in heard.of("step")]
    assert losses[-1] < 0.97 * losses[0], losses


def greedy_without_cache(attached: Attached, row_1T: torch.Tensor, count: int) -> list[int]:
    seen = row_1T
    for _ in range(count):
        seen = torch.cat([seen, logits(attached.model, seen)[:, -1].argmax(-1)[None]], 1)
    return seen[0, row_1T.shape[1] :].tolist()


@some_pairs(4)
def test_padded_batches_with_the_cache_equal_single_rows_without(name: str, architecture: str) -> None:
    attached = attach(name, architecture)
    train(attached)
    rows = [tiny_architectures.ids(rows=1), tiny_architectures.ids(rows=1, length=4, seed=1)]
    expected = [greedy_without_cache(attached, row, 5) for row in rows]
    width = rows[0].shape[1]
    padded_BT = torch.zeros(2, width, dtype=torch.long)
    mask_BT = torch.zeros_like(padded_BT)
    for number, row in enumerate(rows):
        padded_BT[number, width - row.shape[1] :] = row[0]
        mask_BT[number, width - row.shape[1] :] = 1
    # No token ends a row early: every id is as good as another here.
    no_end = {"eos_token_id": -1, "pad_token_id": 0}
    given = attached.model.generate(
        input_ids=padded_BT, attention_mask=mask_BT, max_new_tokens=5, do_sample=False, **no_end
    )
    assert given[:, width:].tolist() == expected


@every_method
def test_answers_are_determined_by_the_seed(name: str, chatml_tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = make(name).attach(tiny.make_llama(seed=3)).model
    template = choose_template(chatml_tokenizer)
    asked = [[Message("user", text)] for text in ("Hi", "What is LoRA, and what does it add?", "你是谁？")]
    for changes in ({"num_beams": 2}, {"temperature": 1.0, "seed": 4}):
        settings = GenerationSettings(**{"max_new_tokens": 4, **changes})
        together = generate(model, chatml_tokenizer, template, asked, settings)
        if "temperature" in changes:
            assert generate(model, chatml_tokenizer, template, asked, settings) == together
        else:
            alone = [generate(model, chatml_tokenizer, template, [one], settings)[0] for one in asked]
            assert alone == together


WINDOWED = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 24}
WITH_WINDOW = {"mistral": {"sliding_window": 24}, "gemma3_text": WINDOWED}
"""Architectures whose window reaches over the virtual tokens, but not over padding as well."""


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        (name, [one for one in WITH_WINDOW if (name, one) not in REFUSED][number % 2 - 1])
        for number, name in enumerate(METHODS.names())
    ],
)
def test_answers_in_a_batch_are_those_alone_behind_a_sliding_window(
    name: str, architecture: str, chatml_tokenizer: PreTrainedTokenizerFast
) -> None:
    changes = WITH_WINDOW[architecture] | {
        "vocab_size": tiny.vocabulary_size(),
        "max_position_embeddings": 256,
    }
    torch.manual_seed(0)
    attached = make(name).attach(tiny_architectures.make_model(architecture, **changes))
    train(attached)
    template = choose_template(chatml_tokenizer)
    asked = [
        [Message("user", text)]
        for text in ("Hi", "Who are you, and what does LoRA add to a layer?", "你是谁？")
    ]
    settings = GenerationSettings(max_new_tokens=6, min_new_tokens=6)
    together = generate(attached.model, chatml_tokenizer, template, asked, settings)
    alone = [generate(attached.model, chatml_tokenizer, template, [one], settings)[0] for one in asked]
    assert together == alone
