"""Checks an adapter's files before they are used: readable, and every number finite."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError, Problem
from .weights.files import some, unreadable

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RUNS_CODE = ("megatron_config",)
"""Settings that make PEFT import a module named by the adapter."""


def adapter_settings(folder: Path) -> dict[str, Any]:
    """Return the contents of adapter_config.json; raises ModelError if it is not a JSON object."""
    path = folder / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        problem = "" if isinstance(found, dict) else f"a {type(found).__name__}"
    except (OSError, ValueError, RecursionError) as error:
        found, problem = {}, f"{type(error).__name__}: {error}"
    if problem:
        raise ModelError(
            Problem(
                "the adapter's settings cannot be read", f"{path} ({problem})", "the file as PEFT writes it"
            )
        )
    return dict(found)


def require_adapter(folder: Path) -> None:
    """Raise ModelError if an adapter's files cannot be read, name code to run, or contain NaN or inf."""
    from safetensors import SafetensorError, safe_open

    settings = adapter_settings(folder)
    odd = [key for key, value in settings.items() if not _is_finite(value)]
    if odd:
        what = f"{len(odd)} of the adapter's settings hold NaN or inf"
        raise ModelError(Problem(what, f"{', '.join(odd)} in {folder / CONFIG}", "finite numbers"))
    code = [key for key in RUNS_CODE if settings.get(key)]
    if code:
        what = "the adapter names Python code that PEFT would import"
        raise ModelError(
            Problem(what, f"{', '.join(code)} in {folder / CONFIG}", "an adapter that holds only weights")
        )
    path = folder / WEIGHTS
    if not path.is_file():
        return  # the loader reports what the folder holds instead
    try:
        with safe_open(path, framework="pt") as tensors:
            names = list(tensors.keys())
            bad = {name for name in names if not _is_finite_in_fp32(tensors.get_tensor(name))}
    except (OSError, SafetensorError) as error:
        raise ModelError(unreadable(path, error)) from error
    if bad:
        raise ModelError(
            Problem(
                f"{len(bad)} of the adapter's {len(names)} tensors hold NaN or inf",
                f"{some(bad)} in {path}",
                "finite numbers",
                "an earlier checkpoint of its run, or a new run with a lower train.lr",
            )
        )


def _is_finite(value: Any) -> bool:  # noqa: ANN401  (any JSON value)
    """Return whether every number in a value is finite."""
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _is_finite_in_fp32(tensor: Tensor) -> bool:
    """Return whether every number is finite in fp32, in which adapters compute; fp64 numbers may be too large for
    it."""
    import torch

    plain = tensor.to(torch.float32) if tensor.dtype is torch.float64 else tensor
    return bool(plain.isfinite().all())


@contextmanager
def errors_named(folder: Path) -> Iterator[None]:
    """Within the context, errors that PEFT raises over an adapter's settings become a ModelError."""
    try:
        yield
    except (
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        ValueError,
        RuntimeError,
        AssertionError,
    ) as error:
        raise ModelError(
            Problem(
                "the adapter cannot be applied to this model",
                f"{folder}: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
                "an adapter as PEFT writes it, on the base it was trained on",
            )
        ) from error
