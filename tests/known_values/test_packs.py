"""A packed step against the plain Hugging Face forward of each unpadded sample: losses, gradients, no leak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import tiny_architectures as tiny
from tiny_packs import MODELS, gradients, make, plain_loss_sum
from tiny_training import make_examples, make_training, sequence_of
from weitiao.data.batching.packing import make_pack
from weitiao.engine.optim.precision import Precision
from weitiao.engine.probe import choose_forward

every_model = pytest.mark.parametrize("label", MODELS)


@pytest.mark.parametrize(
    ("label", "method"),
    [
        *((label, "lora") for label in MODELS),
        *((label, ("full", "freeze")[number % 2]) for number, label in enumerate([*MODELS][::2])),
    ],
)
def test_a_step_is_the_plain_forward_of_its_samples(label: str, method: str, tmp_path: Path) -> None:
    examples = make_examples(5)
    blocks = {"full": "full", "freeze": {"name": "freeze", "last_n": 1}}
    training = make_training(
        tmp_path, examples, method=blocks.get(method, {"name": "lora", "r": 4}), model=make(label)
    )
    stepper = training.stepper
    assert stepper.forward.options.packs is MODELS[label][2]
    with torch.no_grad():  # so that LoRA's B is not zero, and the gradient of A neither
        for parameter in stepper.parameters.values():
            parameter += 0.05 * torch.ones_like(parameter)

    total = sum(plain_loss_sum(stepper.forward.model, example) for example in examples)
    assert isinstance(total, torch.Tensor)
    loss = total / sum(example.trained_tokens for example in examples)
    loss.backward()
    expected = gradients(stepper.parameters)

    with stepper.forward.attention():
        assert stepper.gradients(examples, 0).loss == pytest.approx(float(loss.detach()), abs=1e-5)
    found = gradients(stepper.parameters)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5, msg=name)


@every_model
def test_another_sample_in_the_pack_changes_no_bit(label: str) -> None:
    forward = choose_forward(make(label), Precision())
    first, other, second = (
        make_examples(1, seed=s, shortest=n, longest=n)[0] for s, n in ((1, 14), (2, 14), (3, 9))
    )
    with torch.no_grad(), forward.attention():
        with_first, with_other = (
            forward.outputs(make_pack([one, second])).logits_PV() for one in (first, other)
        )
    own = second.trained_tokens
    assert torch.equal(with_first[-own:], with_other[-own:])
    assert not torch.equal(with_first[:-own], with_other[:-own])


STATEFUL: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "mamba2": {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "state_size": 8},
    "lfm2": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "layer_types": ["conv", "full_attention", "conv"],
    },
}  # fmt: skip


@pytest.mark.parametrize("architecture", STATEFUL)
@pytest.mark.parametrize("weight_noise", [0.0, 0.1])
def test_a_model_with_a_state_is_not_packed(architecture: str, weight_noise: float) -> None:
    """Even where the state is hardly felt, as with freshly made weights."""
    config = AutoConfig.for_model(architecture, vocab_size=tiny.VOCABULARY, **STATEFUL[architecture])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).float().eval()
        for parameter in model.parameters():
            parameter.data += weight_noise * torch.randn_like(parameter)
    forward = choose_forward(model, Precision())
    assert not forward.options.packs
    examples = make_examples(3)
    with torch.no_grad(), forward.attention():
        found = forward.outputs(make_pack(examples))
        for example, logits_KV in zip(
            examples, found.logits_PV().split([e.trained_tokens for e in examples]), strict=True
        ):
            one = sequence_of(example)
            plain_TV = model(input_ids=torch.tensor([one.ids]), use_cache=False).logits[0]
            wanted = [t for t, weight in enumerate(one.weights[1:]) if weight]
            torch.testing.assert_close(logits_KV, plain_TV[wanted], atol=1e-5, rtol=1e-5)


def test_attention_is_put_back() -> None:
    model = tiny.make_model("llama")
    before = model.config._attn_implementation
    forward = choose_forward(model, Precision())
    with pytest.raises(ZeroDivisionError), forward.attention():
        assert model.config._attn_implementation != before
        raise ZeroDivisionError
    assert model.config._attn_implementation == before
