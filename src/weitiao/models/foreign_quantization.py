"""Weights quantised by another library (GPTQ, AWQ, fp8 ...): read by that library's loader, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError, Problem, nearest
from .precision import device_for

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PACKAGES: Mapping[str, str] = {
    "aqlm": "aqlm",
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitnet": "accelerate",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "eetq": "kernels",
    "fbgemm_fp8": "fbgemm-gpu",
    "fouroversix": "fouroversix",
    "fp_quant": "fp_quant",
    "gptq": "gptqmodel",
    "higgs": "flute-kernel",
    "hqq": "hqq",
    "metal": "kernels",
    "mxfp4": "kernels",
    "nvfp4": "kernels",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "sinq": "sinq",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "vptq": "vptq",
}
"""The package to install for a quantisation method, by its name in config.json."""
ELSE = "a copy of the model in bf16, which model.quantization=nf4 quantises to 4 bits"


def require_loader(config: PretrainedConfig, name: str, device_map: str) -> None:
    """Raise ModelError if a model's quantisation cannot be read by anything installed.

    Without this check transformers ignores a quantisation it does not know and initialises the weights at random.
    """
    described = _described(config)
    if not described:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoHfQuantizer

    method = _method(described)
    kinds = {kind.removesuffix("_4bit").removesuffix("_8bit") for kind in AUTO_QUANTIZER_MAPPING}
    if method not in kinds:
        raise ModelError(_unknown(name, method, sorted(kinds)))
    try:
        quantizer = AutoHfQuantizer.from_config(dict(described), pre_quantized=True)
        quantizer.validate_environment(device_map=device_for(device_map), weights_only=True)
    except (ImportError, ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(_no_loader(name, method, error)) from error


def _described(config: PretrainedConfig) -> Mapping[str, Any] | None:
    """Return what a config, or its text config, says about quantisation."""
    for part in (config, config.get_text_config()):
        found = vars(part).get("quantization_config")
        if found:
            return found if isinstance(found, Mapping) else dict(found.to_dict())
    return None


def _method(described: Mapping[str, Any]) -> str:
    in_bits = described.get("load_in_4bit") or described.get("load_in_8bit")
    return "bitsandbytes" if in_bits else str(described.get("quant_method", "none named"))


def _unknown(name: str, method: str, kinds: list[str]) -> Problem:
    return Problem(
        f"{name} has weights in an unknown quantisation",
        f"quantization_config.quant_method: {method}",
        "one of " + ", ".join(kinds),
        " or ".join([*nearest(method, kinds), ELSE]),
    )


def _no_loader(name: str, method: str, error: Exception) -> Problem:
    package = PACKAGES.get(method) if isinstance(error, ImportError) else None
    return Problem(
        f"{name} is quantised with {method}, which cannot be read here",
        " ".join(str(error).split()),
        f"the package {package}" if package else "",
        " or ".join([f"pip install {package}", ELSE] if package else [ELSE]),
    )
