"""Checks that a loaded model is what its files hold: every weight read, none left over, all of them finite."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError, Problem, raise_all
from ..precision import quantization_of
from .files import some, weight_files

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

PACKED = (
    "qweight",
    "qzeros",
    "g_idx",
    "weight_packed",
    "weight_scale",
    "weight_scale_inv",
    "absmax",
    "_blocks",
)
"""Suffixes of tensors that hold packed weights or their scales."""


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a message is not transformers' table of missing and unexpected weights."""
    return "LOAD REPORT" not in record.getMessage()


def drop_loading_report() -> None:
    """Hide that table: the checks here refuse what matters in it, by name."""
    logging.getLogger("transformers.modeling_utils").addFilter(_is_news)


def require_whole(model: PreTrainedModel, info: Mapping[str, Any], name: str) -> None:
    """Raise ModelError, naming the weights, if files lack some of a model's weights, hold extra ones or hold other
    shapes.

    `info` is transformers' report after loading; it takes into account which heads are tied, which buffers are computed
    and which tensors of older versions are unused. Missing weights were initialised at random.
    """
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    shapes = [f"{key}: {list(stored)}, not {list(wanted)}" for key, stored, wanted in info["mismatched_keys"]]
    lacking = missing - {key for key, *_ in info["mismatched_keys"]}
    found = {
        f"the files of {name} do not hold {len(lacking)} of the model's weights": lacking,
        f"the files of {name} hold tensors that the model has no place for ({len(unexpected)})": unexpected,
        f"the files of {name} hold weights in other shapes than config.json gives ({len(shapes)})": shapes,
    }
    remedy = _remedy(unexpected)
    problems = [
        Problem(what, some(sorted(names)), _expected(model), remedy) for what, names in found.items() if names
    ]
    if "peft_config" in vars(model):
        problems.append(embedded_adapter(name))
    raise_all(ModelError, problems)


def embedded_adapter(name: str) -> Problem:
    """Describe a folder that holds both a model and an adapter, which transformers would load on top of it."""
    return Problem(
        f"{name} holds both a model and an adapter, so it is not clear which one is meant",
        "config.json and adapter_config.json",
        "a separate folder for each",
    )


def _expected(model: PreTrainedModel) -> str:
    return f"the weights of {type(model).__name__}, each once and in the shape that config.json gives"


def _remedy(unexpected: set[str]) -> str:
    if any(key.endswith(PACKED) for key in unexpected):
        return "put quantization_config back into config.json: the files hold quantised weights"
    return "download the model again, or put config.json and the weights of one model together"


def require_packed(model: PreTrainedModel, name: str) -> None:
    """Raise ModelError if config.json says that weights are packed by bitsandbytes, but the files hold plain ones.

    transformers loads these as they are, and the layers fail when they are first used.
    """
    if quantization_of(model.config) not in ("nf4", "fp4", "int8"):
        return
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    layers = {path: m for path, m in model.named_modules() if isinstance(m, Linear4bit | Linear8bitLt)}
    plain = [path for path, m in layers.items() if not isinstance(m.weight, Params4bit | Int8Params)]
    if plain:
        raise ModelError(
            Problem(
                f"config.json of {name} says that its weights are quantised, but {len(plain)} of them are not",
                some(plain),
                f"weights as {quantization_of(model.config)}",
                "remove quantization_config from config.json; model.quantization quantises plain weights",
            )
        )


NUMBERS = ("F", "BF")
"""Prefixes of safetensors' floating-point types; the others are integers, booleans and complex numbers."""


def require_float_files(model: PreTrainedModel, folder: Path | None, name: str) -> None:
    """Raise ModelError if files store a weight as integers or complex numbers, which loading would convert silently.

    A quantised model is not checked, since packed weights are integers.
    """
    from safetensors import safe_open

    files = [path for path in weight_files(folder) if path.is_file()] if folder else []
    if not files or quantization_of(model.config) != "none":
        return
    weights = {key for key, _ in model.named_parameters()}
    odd = []
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            kinds = {key: str(tensors.get_slice(key).get_dtype()) for key in tensors.keys()}  # noqa: SIM118
        odd += [
            f"{key}: {kind}"
            for key, kind in kinds.items()
            if not kind.startswith(NUMBERS) and (key in weights or key.endswith(".weight"))
        ]
    if odd:
        what = f"{len(odd)} weights of {name} are not stored as floating-point numbers"
        raise ModelError(Problem(what, some(odd), "floating-point numbers", "download the model again"))


def require_finite_weights(model: PreTrainedModel, name: str) -> None:
    """Raise ModelError, naming the weights, if any contains NaN or inf."""
    bad = [key for key, weight in model.named_parameters() if not _is_finite(weight)]
    if bad:
        raise ModelError(
            Problem(
                f"weights of {name} hold NaN or inf ({len(bad)})",
                some(bad),
                "finite numbers",
                "another copy of it",
            )
        )


def _is_finite(weight: Tensor) -> bool:
    """Return whether every number is finite.

    The sum is checked first, since it needs no memory: if it is finite, so is every number. If it is not, it may have
    overflowed, and each number is checked. One-byte types are not checked.
    """
    import torch

    if not weight.is_floating_point() or weight.is_meta or weight.element_size() < 2:
        return True
    return bool(weight.detach().sum(dtype=torch.float32).isfinite()) or bool(weight.isfinite().all())
