"""Which kernels a run takes, refusals in words where they cannot be had, and 4-bit bases that compute in bf16."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter

import tiny
import tiny_architectures
from tiny_training import Events
from weitiao.core.errors import MissingExtraError, SettingsError
from weitiao.core.events import EventLog
from weitiao.engine.kernels.settings import KernelSettings, require_kernels, uses_liger
from weitiao.engine.optim.optimizers import OptimizerSettings, build_optimizer
from weitiao.models.load import load_model
from weitiao.models.settings import ModelSettings
from weitiao.recipe.build import choose_kernels, precision_for
from weitiao.recipe.recipe import parse_recipe

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LLAMA, GPT2 = (tiny_architectures.make_config(name) for name in ("llama", "gpt2"))
without_liger = pytest.mark.skipif(find_spec("liger_kernel") is not None, reason="liger_kernel is installed")
with_liger = pytest.mark.skipif(find_spec("liger_kernel") is None, reason="needs liger_kernel")


def test_auto_takes_liger_on_cuda_alone_and_none_never() -> None:
    assert not uses_liger(KernelSettings(), LLAMA, CPU)
    assert not uses_liger(KernelSettings(), GPT2, CUDA)
    assert not uses_liger(KernelSettings(kernels="none"), LLAMA, CUDA)
    assert uses_liger(KernelSettings(), LLAMA, CUDA) is (find_spec("liger_kernel") is not None)
    require_kernels(KernelSettings(), GPT2, CPU)


@without_liger
def test_liger_that_is_not_installed_is_refused_with_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"weitiao\[liger\]"):
        require_kernels(KernelSettings(kernels="liger"), LLAMA, CUDA)


@with_liger
def test_liger_on_a_cpu_or_for_another_architecture_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        require_kernels(KernelSettings(kernels="liger"), GPT2, CPU)
    assert [problem.got for problem in caught.value.problems] == ["a model on cpu", "model_type gpt2"]


@with_liger
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_liger_modules_stand_over_the_same_weights_under_the_same_names(architecture: str) -> None:
    from weitiao.engine.kernels.liger import use_liger

    model = tiny_architectures.make_model(architecture)
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    kind = type(model.model.norm)
    use_liger(model)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
    assert type(model.model.norm).__name__ == "LigerRMSNorm"
    assert type(model.model.layers[0].mlp).__name__ == "LigerSwiGLUMLP"
    assert type(tiny_architectures.make_model(architecture).model.norm) is kind  # no other model changes


def test_adamw_is_left_to_torch_on_a_cpu() -> None:
    optimizer = build_optimizer({"w": Parameter(torch.ones(2, 2))}, frozenset(), OptimizerSettings(), 1e-3)
    assert optimizer.param_groups[0]["fused"] is None


@pytest.mark.parametrize(
    ("compute", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)]
)
def test_a_4_bit_base_computes_in_the_type_asked_for(
    compute: str, dtype: torch.dtype | None, tmp_path: Path
) -> None:
    from bitsandbytes.nn import Linear4bit

    folder = tiny.save_tiny_model(tmp_path, hidden=64)
    settings = ModelSettings.model_validate(
        {"name": str(folder), "quantization": "nf4", "compute_dtype": compute, "device_map": "cpu"}
    )
    model = load_model(settings)
    precision = precision_for(settings, model)
    assert precision.compute is dtype
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert layers
    assert {layer.compute_dtype for layer in layers} == {dtype or torch.float32}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_fp16_on_a_cpu_is_said_to_be_slow_with_the_way_back(dtype: torch.dtype) -> None:
    events = Events()
    recipe = parse_recipe({"model": {"name": "x"}, "data": "rows.json", "method": "lora", "out": "none"})
    choose_kernels(recipe, tiny_architectures.make_model("llama").to(dtype), EventLog(None, (events,)))
    said = [event["text"] for event in events.of("note") if "model.dtype=auto" in event["text"]]
    assert len(said) == (dtype is torch.float16)
