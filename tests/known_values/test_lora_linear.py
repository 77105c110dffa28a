"""LoRA's layer as one operation against PEFT's own forward, and where it leaves the word to PEFT."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn

from tiny_architectures import make_model
from weitiao.methods import METHODS
from weitiao.methods._peft.lora_linear import LoraLinear

NAMES = ("output", "x", "lora_A", "lora_B")


def make_layer(bias: bool = True, dtype: torch.dtype = torch.float32, **settings: Any) -> LoraLinear:  # noqa: ANN401
    torch.manual_seed(0)
    base = nn.Linear(24, 40, bias=bias, dtype=dtype).requires_grad_(False)
    config = LoraConfig(r=4, lora_alpha=12, **settings)
    layer = LoraLinear(base, "default", config=config, r=4, lora_alpha=12)
    nn.init.normal_(layer.lora_B["default"].weight)
    return layer.to(dtype) if dtype is torch.float64 else layer


def results(layer: LoraLinear, forward: Callable[..., Tensor], x: Tensor, autocast: bool) -> list[Tensor]:
    x = x.detach().requires_grad_()
    layer.zero_grad()
    torch.manual_seed(1)  # of dropout
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        output = forward(layer, x)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    (output * weights).sum().backward()
    trained = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    return [output.detach(), *(tensor.grad for tensor in (x, *trained) if tensor.grad is not None)]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24)])
def test_it_gives_what_peft_gives(shape: tuple[int, ...], bias: bool, dropout: float) -> None:
    layer = make_layer(bias, torch.float64, lora_dropout=dropout)
    x = torch.randn(shape, dtype=torch.float64)
    found = results(layer, LoraLinear.forward, x, autocast=False)
    wanted = results(layer, PeftLinear.forward, x, autocast=False)
    for name, one, other in zip(NAMES, found, wanted, strict=True):
        assert (one - other).norm() < 1e-12 * other.norm(), name


@pytest.mark.parametrize("input_type", [torch.bfloat16, torch.float32])
def test_under_autocast_it_is_as_near_to_fp32_as_peft_is(input_type: torch.dtype) -> None:
    half = make_layer(dtype=torch.bfloat16)
    whole = make_layer()
    whole.load_state_dict({name: value.float() for name, value in half.state_dict().items()})
    x = torch.randn(3, 6, 24).to(input_type)
    wanted = results(whole, PeftLinear.forward, x.float(), autocast=False)
    found, pefts = (results(half, way, x, autocast=True) for way in (LoraLinear.forward, PeftLinear.forward))
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in pefts]
    for name, ours, theirs, exact in zip(NAMES, found, pefts, wanted, strict=True):
        off, allowed = ((tensor.float() - exact).norm() / exact.norm() for tensor in (ours, theirs))
        assert off < max(1.3 * allowed, 1e-5), name


def test_what_comes_first_is_not_differentiated_where_nothing_asks() -> None:
    layer = make_layer()
    layer(torch.randn(3, 24)).sum().backward()
    assert layer.lora_A["default"].weight.grad is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.enable_adapters(False),
        lambda layer: layer.merge(),
        lambda layer: layer.base_layer.bias.requires_grad_(True),
        lambda layer: layer.base_layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.set_adapter([]),
    ],
    ids=["off", "merged", "its bias trains", "listened to", "none active"],
)
def test_peft_does_what_is_not_plain(change: Callable[[LoraLinear], object]) -> None:
    layer, x = make_layer(), torch.randn(3, 24)
    assert is_one_operation(layer(x))
    change(layer)
    assert not is_one_operation(layer(x))


def is_one_operation(output: Tensor) -> bool:
    return output.grad_fn is not None and "LinearWithBranch" in output.grad_fn.name()


@pytest.mark.parametrize(
    ("architecture", "settings", "plain"),
    [
        ("llama", {}, True),
        ("llama", {"use_dora": True}, True),
        ("gpt2", {}, False),
    ],
)
def test_which_layers_are_ours(architecture: str, settings: dict[str, Any], plain: bool) -> None:
    """Conv1D stays PEFT's; DoRA's layers are of the class and leave the forward to PEFT's variant."""
    method = METHODS.load("lora").model_validate({"r": 4, **settings})
    attached = method.attach(make_model(architecture))
    layers = [module for module in attached.model.modules() if isinstance(module, PeftLinear)]
    assert layers
    assert {isinstance(layer, LoraLinear) for layer in layers} == {plain}
    assert "_custom_modules" not in attached.config.to_dict()
