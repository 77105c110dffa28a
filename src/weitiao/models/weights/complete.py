"""Whether a loaded model is what its files hold: every weight read, none left over, all of them numbers."""

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
"""How the names of tensors end that hold weights in few bits."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is another than transformers' table of missing and unexpected weights."""
    return "LOAD REPORT" not in record.getMessage()


def drop_loading_report() -> None:
    """Keep that table off the terminal: what it lists is refused by name, and what it does not list is fine."""
    logging.getLogger("transformers.modeling_utils").addFilter(_is_news)


def require_whole(model: PreTrainedModel, info: Mapping[str, Any], name: str) -> None:
    """Raise ModelError, naming the weights, where files lack some of a model's, hold others or in other shapes.

    `info` is what transformers says after loading; it knows which heads are tied, which buffers are computed and
    which tensors of older versions are of no use. What is missing it has made up at random.
    """
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    shapes = [f"{key}: {list(stored)}, not {list(wanted)}" for key, stored, wanted in info["mismatched_keys"]]
    found = [
        (
            "do not hold {} of the model's weights",
            sorted(missing - {key for key, *_ in info["mismatched_keys"]}),
        ),
        ("hold tensors that the model has no place for ({})", sorted(unexpected)),
        ("hold weights in other shapes than config.json gives ({})", sorted(shapes)),
    ]
    remedy = _remedy(unexpected)
    problems = [
        Problem(f"the files of {name} " + what.format(len(names)), some(names), _expected(model), remedy)
        for what, names in found
        if names
    ]
    if "peft_config" in vars(model):
        problems.append(embedded_adapter(name))
    raise_all(ModelError, problems)


def embedded_adapter(name: str) -> Problem:
    """Describe a model whose folder holds an adapter as well, which would be loaded on top of it."""
    return Problem(
        f"{name} holds a model and an adapter at once, so it is not clear which of them is meant",
        "config.json and adapter_config.json",
        "a folder of its own for each",
    )


def _expected(model: PreTrainedModel) -> str:
    return f"the weights of {type(model).__name__}, each once and of the shapes that config.json gives"


def _remedy(unexpected: set[str]) -> str:
    if any(key.endswith(PACKED) for key in unexpected):
        return "put quantization_config back into config.json: the files hold quantised weights"
    return "download the model again, or put config.json and the weights of one model together"


def require_packed(model: PreTrainedModel, name: str) -> None:
    """Raise ModelError where config.json says that weights are packed by bitsandbytes, and the files hold plain ones.

    transformers loads those as they are, and the layers fail at their first use.
    """
    if quantization_of(model.config) not in ("nf4", "fp4", "int8"):
        return
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    layers = {path: m for path, m in model.named_modules() if isinstance(m, Linear4bit | Linear8bitLt)}
    plain = [path for path, m in layers.items() if not isinstance(m.weight, Params4bit | Int8Params)]
    if plain:
        raise ModelError(
            Problem(
                f"config.json of {name} says that its weights are packed, and {len(plain)} of them are not",
                some(plain),
                f"weights as {quantization_of(model.config)}",
                "remove quantization_config from config.json; model.quantization packs plain weights",
            )
        )


NUMBERS = ("F", "BF")
"""How safetensors' names of floating-point types begin; the others are integers, truth values and complex numbers."""


def require_float_files(model: PreTrainedModel, folder: Path | None, name: str) -> None:
    """Raise ModelError where files hold a weight as integers or complex numbers, which loading would convert without a
    word; packed weights are integers."""
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
        what = f"{len(odd)} weights of {name} are stored as numbers of another kind"
        raise ModelError(Problem(what, some(odd), "floating-point numbers", "download the model again"))


def require_finite_weights(model: PreTrainedModel, name: str) -> None:
    """Raise ModelError, naming the weights, where any holds a NaN or inf."""
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
    """Whether every number is finite; their sum is not if one of them is not, and takes no memory."""
    import torch

    if not weight.is_floating_point() or weight.is_meta or weight.element_size() < 2:
        return True
    return bool(weight.detach().sum(dtype=torch.float32).isfinite()) or bool(weight.isfinite().all())
