"""Reads PyTorch's pickled weights and writes them as safetensors; run as its own process, never imported.

    python -m weitiao.models.weights.unpickle < JOB

JOB is JSON: `files` is a list of pairs of paths (a pickle, the safetensors file to write), and `tied` maps a tensor's
name to the name of the tensor that the model ties it to. For each file written, a line of JSON goes to stdout:
`tensors` (name -> bytes), `tied` (names left out, since the model fills them from the other tensor) and `others`
(entries that are not tensors). `torch.load` builds only tensors and plain values here (weights_only); an entry that it
refuses ends this process.
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
"""Keys under which training programs save a model's weights beside other things."""


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
    """Return a file's entries by name, with the weights unwrapped from a training program's checkpoint."""
    # Only the newer of the two formats, a zip file, can be memory-mapped.
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
    """Return tensors that each own their memory, as safetensors requires: views are copied."""
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
