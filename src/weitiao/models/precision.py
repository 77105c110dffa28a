"""Precision and quantisation: from settings to the arguments of torch, transformers and bitsandbytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import ModelError, Problem, missing_extra

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PretrainedConfig

    from .settings import ModelSettings, Precision


def device_for(device_map: str) -> str | dict[str, str]:
    """Return the `device_map` for `from_pretrained`: `auto` is this process's accelerator, or the CPU if there is
    none."""
    import os

    import torch

    if device_map != "auto":
        return device_map
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return {"": "cpu"}
    # Every rank of a distributed run holds a whole model, each on its own device.
    return {"": f"{accelerator.type}:{os.environ.get('LOCAL_RANK', '0')}"}


def require_device(device_map: str) -> None:
    """Raise ModelError if a CUDA device is requested and this machine or this build of torch has none."""
    import torch

    if device_map.startswith("cuda") and not torch.cuda.is_available():
        what = "no CUDA device can be used: there is none, or this torch was built without CUDA"
        got = f"model.device_map: {device_map}, torch {torch.__version__}"
        raise ModelError(Problem(what, got, "auto or cpu", "model.device_map=auto"))


def torch_dtype(precision: Precision, device_map: str = "auto") -> torch.dtype:
    """Return torch's dtype; `auto` is bf16 on a CUDA device with native bf16, fp16 on an older one, else fp32.

    On CPUs without AMX or AVX512-bf16 half precision is ten times slower than fp32, so fp32 is the default there.
    """
    import torch

    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision != "auto":
        return named[precision]
    if device_map == "cpu" or not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def quantization_config(settings: ModelSettings) -> BitsAndBytesConfig | None:
    """Return bitsandbytes' settings, or None without quantisation; raises MissingExtraError if bitsandbytes is
    missing."""
    from importlib.util import find_spec

    if settings.quantization == "none":
        return None
    if find_spec("bitsandbytes") is None:
        raise missing_extra("bitsandbytes", "quantization", f"quantization: {settings.quantization}")
    from transformers import BitsAndBytesConfig

    if settings.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization,
        bnb_4bit_use_double_quant=settings.double_quantization,
        bnb_4bit_compute_dtype=torch_dtype(settings.compute_dtype, settings.device_map),
    )


def quantization_of(config: PretrainedConfig) -> str:
    """Return how a model with this config stores its linear layers: none, nf4, fp4, int8, or another method's own
    name."""
    described = config.to_dict().get("quantization_config")
    if not described:
        return "none"
    if described.get("load_in_4bit"):
        return str(described.get("bnb_4bit_quant_type", "fp4"))
    return "int8" if described.get("load_in_8bit") else str(described.get("quant_method", "unknown"))
