"""Reads single tensors from the files that a model was loaded from, as they were before quantisation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import ModelError, Problem
from .files import INDEX, SINGLE, weight_map

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class StoredWeights:
    """Reads single tensors from the safetensors files that a model was loaded from."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Find the files of a loaded model; raises ModelError if they no longer exist."""
        self._folder = _folder_of(model)
        self._prefix = f"{model.base_model_prefix}."
        sharded = not (self._folder / SINGLE).is_file() and (self._folder / INDEX).is_file()
        self._shards = weight_map(self._folder) if sharded else {}

    def tensor(self, name: str) -> Tensor:
        """Return one tensor on the CPU by its name in the model; raises ModelError if no file holds it."""
        from safetensors import safe_open

        # Checkpoints of early architectures omit the prefix of the model's body.
        for stored in (name, name.removeprefix(self._prefix)):
            file = self._folder / self._shards.get(stored, SINGLE)
            if not file.is_file():
                continue
            with safe_open(file, framework="pt") as tensors:
                if stored in set(tensors.keys()):
                    tensor: Tensor = tensors.get_tensor(stored)
                    return tensor
        raise ModelError(
            Problem(
                "the model's files lack an unquantised weight that is needed",
                f"{name} in {self._folder}",
                "a safetensors model whose tensors are named as in memory",
                "method.init_lora_weights=default",
            )
        )


def _folder_of(model: PreTrainedModel) -> Path:
    """Return the folder a model was loaded from: its own, or the cache at the commit that was loaded."""
    from huggingface_hub import try_to_load_from_cache

    name = model.name_or_path
    if Path(name).is_dir():
        return Path(name)
    commit = vars(model.config).get("_commit_hash")
    config = try_to_load_from_cache(name, "config.json", revision=commit)
    if not isinstance(config, str):
        raise ModelError(Problem("the files this model was loaded from no longer exist", name))
    return Path(config).parent
