"""What every method promises, on every architecture: a new file in methods/ is tested without editing this."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import tiny_architectures as tiny
from plain_python import output_of_plain
from tiny_methods import (
    REFUSED,
    UNMERGED,
    backward,
    chosen_pairs,
    every_method,
    logits,
    make,
    make_config,
    make_model,
    own_logits,
    some_pairs,
    train,
)
from weitiao.core.errors import ModelError, NotFiniteError
from weitiao.engine.kernels.matmul import products_from
from weitiao.methods import METHODS
from weitiao.methods._alternatives import require_applicable
from weitiao.methods._base import FAMILIES, Attached, count_parameters
from weitiao.methods._peft.attached import PeftMethod, load_adapter
from weitiao.methods._peft.register import needs_registering
from weitiao.models.load import load_model, weightless
from weitiao.models.settings import ModelSettings


@every_method
def test_it_says_what_it_is(name: str) -> None:
    method = METHODS.load(name)
    assert METHODS.summary(name).endswith(".")
    assert all((method.title, method.formula, method.trains, method.when))
    assert method.family in FAMILIES
    assert re.match(r"[\d.]+ %", method.share)
    assert all(1 <= len(words) <= 60 for words in (method.share, method.inference_cost, method.memory))
    lines = method.drawing.splitlines()
    assert 4 <= len(lines) <= 12 and max(map(len, lines)) <= 72
    assert "trained" in method.drawing and method.drawing == "\n".join(map(str.rstrip, lines))
    assert method.paper.startswith("https://")
    assert 0 < method.suggested_lr < 1
    assert make(name).name == name
    assert all(field.description for field in method.model_fields.values())


@pytest.mark.parametrize(("name", "architecture"), REFUSED)
def test_what_it_cannot_apply_to_is_refused_in_words(name: str, architecture: str) -> None:
    config = make_config(architecture)
    with pytest.raises(ModelError, match=REFUSED[name, architecture]):
        require_applicable(make(name), weightless(config), config)


@pytest.mark.parametrize(("name", "architecture"), [("llama_adapter", "opt"), next(iter(REFUSED))])
def test_what_it_cannot_apply_to_is_not_attached(name: str, architecture: str) -> None:
    with pytest.raises(ModelError, match=REFUSED[name, architecture]):
        make(name).attach(make_model(architecture))


@some_pairs(0)
def test_it_begins_as_the_base(name: str, architecture: str) -> None:
    base = logits(make_model(architecture))
    attached = make(name).attach(make_model(architecture))
    assert torch.equal(own_logits(attached), base) is METHODS.load(name).starts_as_base


@some_pairs(1)
def test_only_its_own_parameters_train_and_in_fp32(name: str, architecture: str) -> None:
    attached = make(name).attach(make_model(architecture).bfloat16())
    trained = {id(p) for p in attached.trainable().values()}
    assert trained
    assert all(p.dtype is torch.float32 for p in attached.trainable().values())

    attached = make(name).attach(make_model(architecture))
    trained = {id(p) for p in attached.trainable().values()}
    before = {n: (p, p.detach().clone()) for n, p in attached.model.named_parameters()}
    train(attached)
    moved = {id(p) for p, old in before.values() if not torch.equal(p, old)}
    assert moved == trained


@some_pairs(2)
def test_every_trained_parameter_gets_a_gradient(name: str, architecture: str) -> None:
    attached = make(name).attach(make_model(architecture))
    train(attached, steps=1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in attached.trainable().values())
    train(attached, steps=1)
    assert [n for n, p in attached.trainable().items() if not p.grad.any()] == []


@some_pairs(3)
def test_activation_checkpointing_changes_no_gradient(name: str, architecture: str) -> None:
    def gradients(checkpointed: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        attached = make(name).attach(make_model(architecture))
        if checkpointed:
            attached.model.gradient_checkpointing_enable({"use_reentrant": False})
        backward(attached)
        return {n: p.grad for n, p in attached.trainable().items()}

    plain, checkpointed = gradients(False), gradients(True)
    for parameter in plain:
        torch.testing.assert_close(checkpointed[parameter], plain[parameter])


@some_pairs(4)
def test_switched_off_it_is_the_base(name: str, architecture: str) -> None:
    base = logits(make_model(architecture))
    attached = make(name).attach(make_model(architecture))
    train(attached)
    trained = own_logits(attached)
    assert not torch.allclose(trained, base, atol=1e-3)
    try:
        with attached.disabled():
            assert torch.equal(logits(attached.model), base)
    except ModelError as refusal:
        assert "base" in str(refusal)
        assert attached.saves_whole_model
    assert torch.equal(own_logits(attached), trained)
    train(attached, steps=1)


def assert_not_merged(attached: Attached) -> None:
    """Merging is refused with a reason and what to do, and what was trained is as before."""
    trained = logits(attached.model)
    with pytest.raises(ModelError, match=r"cannot be merged into|no plain model") as refusal:
        attached.merge()
    assert "expected" in str(refusal.value)
    assert torch.equal(logits(attached.model), trained)


@pytest.mark.parametrize(("name", "architecture"), dict.fromkeys([*chosen_pairs(1), *sorted(UNMERGED)]))
def test_merged_it_answers_the_same(name: str, architecture: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    method = make(name)
    attached = method.attach(make_model(architecture))
    train(attached)
    unmerged = logits(attached.model)
    if not method.merges or (name, architecture) in UNMERGED:
        assert_not_merged(attached)
        return
    merged = attached.merge()
    torch.testing.assert_close(logits(merged), unmerged, atol=1e-5, rtol=0)
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(merged))


LOADER = """
import sys
sys.modules["weitiao"] = None  # importing it now fails
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

for folder, whole, out in zip(*[iter(sys.argv[1:])] * 3):
    loader = AutoModelForCausalLM if whole == "True" else AutoPeftModelForCausalLM
    model = loader.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        torch.save(model(torch.load(out + ".ids", weights_only=True)).logits, out)
"""


def test_saved_it_answers_bit_equal_in_a_process_without_weitiao(tmp_path: Path) -> None:
    """Plain PEFT or transformers load every method's result, and every architecture's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    arguments, expected, left_out = [], {}, set()
    for name, architecture in chosen_pairs(3):
        base, saved = tmp_path / f"base-{architecture}", tmp_path / f"{name}-{architecture}"
        make_model(architecture).save_pretrained(base)
        attached = make(name).attach(load_model(ModelSettings(name=str(base))))
        if needs_registering(attached):  # tests/methods/test_own_methods.py loads these with weitiao
            left_out.add(name)
            continue
        train(attached)
        attached.save(saved)
        out = str(saved) + ".logits"
        torch.save(tiny.ids(), out + ".ids")
        arguments += [str(saved), str(attached.saves_whole_model), out]
        with products_from("mkl"):  # as in the other process
            expected[out] = logits(attached.model)
    output_of_plain(LOADER, *arguments)
    torch.set_num_threads(threads)
    different = [out for out, wanted in expected.items() if not torch.equal(torch.load(out), wanted)]
    assert different == []
    assert left_out == {name for name in METHODS.names() if METHODS.load(name).tuner()}


@every_method
def test_only_safetensors_are_written(name: str, tmp_path: Path) -> None:
    attached = make(name).attach(make_model("llama"))
    attached.save(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".safetensors", ".json"}
    configs = [json.loads(p.read_text(encoding="utf-8")) for p in tmp_path.glob("*.json")]
    assert configs


@every_method
def test_what_is_not_finite_is_not_written(name: str, tmp_path: Path) -> None:
    attached = make(name).attach(make_model("llama"))
    parameter = next(iter(attached.trainable().values()))
    parameter.data.view(-1)[0] = float("nan")
    with pytest.raises(NotFiniteError, match="NaN or inf"):
        attached.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@some_pairs(5)
def test_a_weightless_model_counts_the_same(name: str, architecture: str) -> None:
    real = make(name).attach(make_model(architecture))
    shape = make(name).attach(weightless(make_config(architecture)))
    assert count_parameters(shape.model) == count_parameters(real.model)
    assert 0 < count_parameters(real.model)[0] <= count_parameters(real.model)[1]
    assert list(shape.trainable()) == list(real.trainable())


@every_method
def test_names_of_trained_parameters_are_in_the_models_order(name: str) -> None:
    attached = make(name).attach(make_model("llama"))
    order = {n: number for number, (n, _) in enumerate(attached.model.named_parameters())}
    assert all(order[a] < order[b] for a, b in pairwise(attached.trainable()))
    assert attached.fast_parameters() <= set(attached.trainable())


@every_method
def test_a_checkpoint_brings_a_fresh_model_to_the_same_state(name: str) -> None:
    first = make(name).attach(make_model("llama"))
    train(first)
    values = {n: p.detach().clone() for n, p in first.trainable().items()}
    second = make(name).attach(make_model("llama"))
    second.load_checkpoint_state(first.checkpoint_state())
    for n, parameter in second.trainable().items():
        parameter.data.copy_(values[n])
    assert torch.equal(logits(second.model), logits(first.model))


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    folder = tmp_path_factory.mktemp("nf4-base")
    make_model("llama").save_pretrained(folder)
    return ModelSettings(name=str(folder), quantization="nf4")


@every_method
def test_on_a_four_bit_base(name: str, quantized: ModelSettings, tmp_path: Path) -> None:
    """A method trains on a 4-bit base, merges exactly and loads again, or refuses before any weights."""
    method = make(name)
    if not method.on_quantized:
        with pytest.raises(ModelError, match="quantization"):
            require_applicable(method, weightless(make_config("llama")), load_model(quantized).config)
        return
    base = logits(load_model(quantized))
    attached = method.attach(load_model(quantized))
    assert torch.equal(own_logits(attached), base) is method.starts_as_base
    train(attached)
    with attached.disabled():
        assert torch.equal(logits(attached.model), base)
    trained = logits(attached.model)
    attached.save(tmp_path)
    if isinstance(method, PeftMethod):
        assert torch.equal(logits(load_adapter(load_model(quantized), tmp_path).model), trained)
    if not method.merges:
        assert_not_merged(attached)
        return
    torch.testing.assert_close(logits(attached.merge()), trained, atol=1e-5, rtol=0)
