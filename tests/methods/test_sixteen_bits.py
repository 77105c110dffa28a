"""Every method on a CPU in bf16: the packed forward and its gradients run, and gradients arrive in fp32."""

from __future__ import annotations

import pytest
import torch

import tiny_architectures as tiny
from tiny_methods import every_method, make
from weitiao.data.batching.packing import make_pack
from weitiao.data.example import Example
from weitiao.engine.optim.precision import Precision
from weitiao.engine.probe import choose_forward
from weitiao.methods._base import Method
from weitiao.methods.lora import Lora
from weitiao.objectives.sft import SupervisedFineTuning


def check(method: Method, architecture: str) -> None:
    attached = method.attach(tiny.make_model(architecture).bfloat16())
    forward = choose_forward(attached.model, Precision(torch.bfloat16))
    rows = [((3, 4, 5, 6, 7), (0.0, 1, 1, 1, 1)), ((3, 9, 5, 6, 7, 8), (0.0, 1, 1, 1, 1, 1))]
    examples = [Example.of(ids, weights, "<row>") for ids, weights in rows]
    with forward.attention():
        loss = SupervisedFineTuning().loss(forward.outputs(make_pack(examples, forward.options.shares)))
        loss.sum.backward()
    gradients = [parameter.grad for parameter in attached.trainable().values()]
    assert torch.isfinite(loss.sum)
    assert all(g is not None and g.dtype is torch.float32 and g.isfinite().all() for g in gradients)


@every_method
def test_every_method(name: str) -> None:
    check(make(name), "llama")


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma"])
def test_trained_norms_and_embeddings(architecture: str) -> None:
    check(make("full"), architecture)
    check(Lora(modules_to_save="embed_tokens,lm_head"), architecture)
