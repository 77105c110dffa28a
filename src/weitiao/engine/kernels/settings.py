"""Settings that choose a model's kernels, which change speed and memory, and checks of what they require."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal

from ...core.errors import Problem, SettingsError, missing_extra, raise_all
from ...core.settings import DECIDES_NOTHING, Settings

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

Matmul = Literal["auto", "mkl", "onednn"]

LIGER_KNOWS = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
"""The architectures (config.model_type) whose norms and MLPs liger.py can replace."""


class KernelSettings(Settings):
    """What the blocks of a model run on."""

    kernels: Annotated[Literal["auto", "liger", "none"], DECIDES_NOTHING] = "auto"
    """Fused norms and MLPs: liger (Liger kernels), none (transformers' own), auto (liger on CUDA if it is
    installed and supports the architecture)."""
    matmul: Annotated[Matmul, DECIDES_NOTHING] = "auto"
    """Library for fp32 matrix products on the CPU: mkl (torch's default), onednn (also part of torch), auto
    (onednn on x86 processors not made by Intel, where MKL is slow and less accurate)."""
    compile: Annotated[bool, DECIDES_NOTHING] = False
    """Compile the model's blocks with torch.compile; every pack is then padded to `pack_tokens`. The first step
    takes minutes."""


def liger_is_installed() -> bool:
    """Return whether the liger_kernel package is installed."""
    return find_spec("liger_kernel") is not None


def liger_knows(config: PretrainedConfig) -> bool:
    """Return whether Liger has kernels for a model of this config: a known architecture with SwiGLU."""
    return config.model_type in LIGER_KNOWS and config.hidden_act in ("silu", "swish")


def uses_liger(settings: KernelSettings, config: PretrainedConfig, device: torch.device) -> bool:
    """Return whether a model of this config on `device` should use Liger kernels."""
    if settings.kernels == "auto":
        return device.type == "cuda" and liger_knows(config) and liger_is_installed()
    return settings.kernels == "liger"


def require_kernels(settings: KernelSettings, config: PretrainedConfig, device: torch.device) -> None:
    """Raise SettingsError or MissingExtraError if Liger kernels are requested but cannot be used."""
    if settings.kernels != "liger":
        return
    if not liger_is_installed():
        raise missing_extra("liger_kernel", "liger", "train.kernels=liger")
    names = ", ".join(sorted(LIGER_KNOWS))
    expected = {
        f"a model on {device.type}": ("a model on a CUDA device", device.type == "cuda"),
        f"model_type {config.model_type}": (f"one of {names}, with SwiGLU", liger_knows(config)),
    }
    raise_all(
        SettingsError,
        [
            Problem("Liger kernels cannot run this model", got, wanted, "train.kernels=auto")
            for got, (wanted, holds) in expected.items()
            if not holds
        ],
    )
