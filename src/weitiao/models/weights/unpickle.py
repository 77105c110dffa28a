"""Reads PyTorch's pickled weights and writes them as safetensors; run as a process of its own, and imported nowhere.

    python -m weitiao.models.weights.unpickle < JOB

JOB is JSON: `files` pairs of paths (a pickle, the safetensors file to write) and `tied` (a name -> the name of the
tensor that the model makes it equal to). Each file written is told as a line of JSON: `tensors` (name -> bytes),
`tied` (names left out, as the model gives them the values of another) and `others` (entries that are no tensors).
`torch.load` builds nothing but tensors and plain values here (weights_only), and what it refuses ends this process.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training programs keep a model's weights beside other things."""


def main() -> None:
    """Convert the files that the job on stdin names."""
    job = json.load(sys.stdin)
    for source, target in job["files"]:
        entries = _weights(source)
        tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        tied = [
            name
            for name, other in job["tied"].items()
            if name in tensors and other in tensors and _is_same(tensors[name], tensors[other])
        ]
        kept = _independent((name, tensor) for name, tensor in tensors.items() if name not in tied)
        save_file(kept, target, metadata={"format": "pt"})
        told = {
            "tensors": {name: tensor.nbytes for name, tensor in kept.items()},
            "tied": tied,
            "others": sorted(set(entries) - set(tensors)),
        }
        print(json.dumps(told), flush=True)


def _weights(source: str) -> dict[str, Any]:
    """Return what a file holds by name, the weights taken out of what a training program wrapped them in."""
    # Only the newer of the two forms, a zip file, can be mapped into memory.
    found = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        wrapper = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if wrapper is None:
            break
        found = found[wrapper]
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        sys.exit("no tensors by name")
    return {str(name): value for name, value in found.items()}


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def _independent(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors each of which has memory of its own, as safetensors wants them: views are copied."""
    kept: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors:
        storage = tensor.untyped_storage()
        is_whole = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in places
        places.add(storage.data_ptr())
        whole = tensor.contiguous()
        kept[name] = whole if is_whole or whole.data_ptr() != tensor.data_ptr() else whole.clone()
    return kept


if __name__ == "__main__":
    main()
