"""What every method promises on models that are no plain decoders: it works there, or names methods that do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch

import tiny_kinds as kinds
from tiny_methods import every_method, make
from weitiao.core.errors import ModelError
from weitiao.methods import METHODS
from weitiao.methods._alternatives import applicable, require_applicable
from weitiao.methods._base import Attached
from weitiao.methods._peft.attached import PeftMethod, load_adapter
from weitiao.models.load import weightless_like

every_kind = pytest.mark.parametrize("kind", kinds.MAKERS)
PROMPTS = {"prompt_tuning", "p_tuning", "prefix_tuning", "p_tuning_v2"}
REFUSED: dict[str, set[str]] = {
    "llama classifier": {"llama_adapter", "trainable_tokens", "prompt_tuning", "p_tuning"},
    "bert classifier": {"llama_adapter", "trainable_tokens", "prefix_tuning", "p_tuning_v2"},
    "t5": {"llama_adapter", "prefix_tuning", "p_tuning_v2"},
    "mamba": {"llama_adapter", "adapter", "ia3", *PROMPTS},
}
"""Where a method does not apply, as it says itself."""


@cache
def applicable_to(kind: str) -> list[str]:
    model = weightless_like(kinds.make_model(kind))
    return applicable(model, model.config)


def assert_names_others(refusal: ModelError, name: str, kind: str) -> None:
    listed = re.search(r"methods that apply to this model: (.*)", str(refusal))
    assert listed, str(refusal)
    others = listed[1].split(", ")
    assert name not in others and len(others) > 5
    assert others == applicable_to(kind) == sorted(set(METHODS.names()) - REFUSED[kind])
    assert re.search(r"try +.*method=lora", str(refusal))


def train(kind: str, attached: Attached, steps: int = 2) -> None:
    attached.starts(10)
    attached.model.train()
    optimizer = torch.optim.AdamW(attached.trainable().values(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        kinds.loss(kind, attached.model).backward()
        optimizer.step()


@every_kind
def test_the_methods_that_apply_are_known(kind: str) -> None:
    assert applicable_to(kind) == sorted(set(METHODS.names()) - REFUSED[kind])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, [*kinds.MAKERS][(number + more) % len(kinds.MAKERS)])
        for number, name in enumerate(METHODS.names())
        for more in range(2)
    ],
)
def test_it_works_or_names_others(name: str, kind: str, tmp_path: Path) -> None:
    method = make(name)
    if name in REFUSED[kind]:
        model = weightless_like(kinds.make_model(kind))
        with pytest.raises(ModelError) as refusal:
            require_applicable(method, model, model.config)
        assert_names_others(refusal.value, name, kind)
        return
    base = kinds.logits(kind, kinds.make_model(kind))
    attached = method.attach(kinds.make_model(kind))
    planned = method.plan(weightless_like(kinds.make_model(kind)))
    assert list(planned.trainable()) == list(attached.trainable())
    train(kind, attached)
    assert [n for n, p in attached.trainable().items() if p.grad is None or not p.grad.any()] == []
    trained = kinds.logits(kind, attached.model)
    assert not torch.allclose(trained, base, atol=1e-3)
    if attached.saves_whole_model:
        return
    with attached.disabled():
        assert torch.equal(kinds.logits(kind, attached.model), base)
    assert torch.equal(kinds.logits(kind, attached.model), trained)
    attached.save(tmp_path)
    assert_loads(name, kind, attached, tmp_path)


def assert_loads(name: str, kind: str, attached: Attached, folder: Path) -> None:
    """What was saved answers bit-equal, and goes on where such an adapter can."""
    trained = kinds.logits(kind, attached.model)  # diff pruning prunes when it is saved
    assert torch.equal(kinds.logits(kind, load_adapter(kinds.make_model(kind), folder).model), trained)
    method = make(name)
    assert isinstance(method, PeftMethod)
    if name != "p_tuning":  # its encoder is not saved
        again = method.continue_from(kinds.make_model(kind), folder)
        assert torch.equal(kinds.logits(kind, again.model), trained)
        assert again.trainable().keys() >= {
            n for n in attached.trainable() if "classifier" in n or "score" in n
        }


@pytest.mark.parametrize(("kind", "head"), [("llama classifier", "score"), ("bert classifier", "classifier")])
@every_method
def test_the_head_of_a_classifier_trains_with_the_adapter(name: str, kind: str, head: str) -> None:
    if name not in REFUSED[kind]:
        attached = make(name).attach(weightless_like(kinds.make_model(kind)))
        assert any(head in parameter.split(".") for parameter in attached.trainable())


@every_method
def test_both_halves_of_an_encoder_decoder_train(name: str) -> None:
    if name in REFUSED["t5"] | {"prompt_tuning", "p_tuning", "trainable_tokens"}:
        return  # a soft prompt stands before the encoder; the embeddings are shared
    names = list(make(name).attach(weightless_like(kinds.make_model("t5"))).trainable())
    halves: Sequence[str] = ("encoder", "decoder")
    assert all(any(half in parameter.split(".") for parameter in names) for half in halves)


@every_method
def test_only_what_is_called_is_adapted(name: str) -> None:
    """A kernel of Mamba's reads the weights of x_proj, dt_proj and out_proj without calling the layers."""
    if name in REFUSED["mamba"] | {"full", "freeze"}:
        return
    names = make(name).attach(weightless_like(kinds.make_model("mamba"))).trainable()
    assert not {"x_proj", "dt_proj", "out_proj"} & {
        part for parameter in names for part in parameter.split(".")
    }


def test_layers_that_nothing_calls_are_refused_by_name() -> None:
    model = weightless_like(kinds.make_model("mamba"))
    with pytest.raises(ModelError, match=r"without calling them(.|\n)*dt_proj(.|\n)*in_proj"):
        require_applicable(METHODS.load("lora")(target_modules=["in_proj", "dt_proj"]), model, model.config)


def test_what_peft_refuses_is_no_traceback() -> None:
    """An architecture's own table may let through what PEFT does not."""
    model = weightless_like(kinds.make_model("mamba"))
    with pytest.raises(ModelError, match="PEFT says"):
        METHODS.load("lora")(target_modules=["conv1d"], modules_to_save=[]).wrapped(
            model, METHODS.load("lora")(target_modules=["conv1d"]).peft_config(model)
        )
