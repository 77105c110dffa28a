"""Stores nested state as safetensors plus JSON, formats that cannot contain executable code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

Plain = Any
"""A JSON value; tensors are written as {"$tensor": NAME}, and inf and NaN as {"$float": "inf"}."""


def take_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Plain:  # noqa: ANN401  (any nested state)
    """Return `value` as JSON, its tensors moved into `tensors` under names that begin with `name`.

    Raises TypeError for anything that is neither a number, text, None, tensor, list, tuple nor dict.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"$tensor": name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, dict):
        items = [[key, take_tensors(item, f"{name}/{key}", tensors)] for key, item in value.items()]
        return {"$items": items}
    if isinstance(value, list | tuple):
        kind = "$tuple" if isinstance(value, tuple) else "$list"
        return {kind: [take_tensors(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} holds a {type(value).__name__}, which a checkpoint cannot keep")


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return CPU tensors that share no memory, as safetensors requires (8-bit optimizers share lookup tables)."""
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        here = tensor.detach().contiguous().cpu()
        storage = here.untyped_storage().data_ptr()
        own[name] = here.clone() if storage in seen else here
        seen.add(storage)
    return own


def put_tensors(plain: Plain, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    """Return the nested state that `take_tensors` took apart."""
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "$tensor":
        return tensors[content]
    if kind == "$float":
        return float(content)
    if kind == "$items":
        return {key: put_tensors(item, tensors) for key, item in content}
    items = [put_tensors(item, tensors) for item in content]
    return tuple(items) if kind == "$tuple" else items
