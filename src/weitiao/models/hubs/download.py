"""Downloading a hub's model: what of it is needed, whether the disk has room, and how far it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from ...core.errors import ModelError, Problem
from ...core.events import Event, Listener
from ...core.files import existing_parent, need_disk
from ...core.folder_growth import reported_growth
from ...core.units import readable_bytes
from ..weights.files import INDEX, SINGLE, weight_files
from .hub import Hub, HubModel, HubName

SMALL_BYTES = 64 << 20
"""No config, vocabulary or template is larger."""
HEAVY = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".gguf",
    ".ot",
    ".tflite",
)
"""How the names of files end that hold weights."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
"""Those of them in Python's pickle form."""


def silent(_: Event) -> None:
    """Pass over an event."""


def small_files(files: Mapping[str, int]) -> list[str]:
    """Return the files at the top that are no weights: config, vocabulary, template, code."""
    return [
        name
        for name, size in files.items()
        if "/" not in name and size <= SMALL_BYTES and not name.endswith(HEAVY)
    ]


def hub_named(name: HubName) -> Hub:
    """Return a hub by name; its client is imported."""
    if name == "modelscope":
        from .modelscope import ModelScope

        return ModelScope()
    from .huggingface import HuggingFace

    return HuggingFace()


def has_weights(folder: Path) -> bool:
    """Whether a folder holds every weight file that transformers would read."""
    return all(path.is_file() for path in weight_files(folder))


def is_whole(folder: Path) -> bool:
    """Whether a hub's cache holds a model's weights and a tokenizer, so that it can be used without the hub."""
    return has_weights(folder) and (folder / "tokenizer_config.json").is_file()


def weights_of(hub: Hub, model: HubModel, files: Mapping[str, int]) -> list[str]:
    """Return a model's weight files and all that is small; raises ModelError where it has no safetensors."""
    small = small_files(files)
    if SINGLE in files:
        return [*small, SINGLE]
    require_safetensors(model, files)
    if INDEX not in files:
        what = f"{model.id} has no {SINGLE}"
        found = ", ".join(name for name in files if name.endswith(".safetensors"))
        raise ModelError(Problem(what, found, f"{SINGLE}, or {INDEX} and the files it names"))
    index = hub.fetch(model, [INDEX]) / INDEX
    named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return [*small, *(name for name in named if name in files)]


def require_safetensors(model: HubModel, files: Mapping[str, int]) -> None:
    """Raise ModelError, with the command that converts them, where a hub's model has pickled weights alone."""
    if any(name.endswith(".safetensors") for name in files):
        return
    pickles = [name for name in files if name.endswith(PICKLES)]
    if not pickles:
        what = f"{model.id} holds no weights that transformers reads"
        raise ModelError(Problem(what, ", ".join(list(files)[:8]), SINGLE))
    raise ModelError(pickled(model.id, pickles))


def pickled(name: str, files: list[str]) -> Problem:
    """Describe a model whose weights are in Python's pickle form, with the command that makes safetensors of them."""
    return Problem(
        f"{name} holds its weights as a Python pickle, which can run any code when it is opened",
        ", ".join(files),
        SINGLE,
        f"weitiao models convert {name}",
    )


def fetch(hub: Hub, model: HubModel, wanted: Mapping[str, int], listener: Listener) -> Path:
    """Download files of a model, path -> bytes, that the cache lacks; raises ResourceError, ModelError."""
    folder = hub.cached(model)
    missing = {name: size for name, size in wanted.items() if folder is None or not (folder / name).is_file()}
    total_bytes, cache = sum(missing.values()), hub.cache_of(model)
    need_disk(cache, total_bytes, f"the download of {model.id}", f"free some space, or {hub.room()}")
    free_bytes = shutil.disk_usage(existing_parent(cache)).free
    text = (
        f"downloading {model.id} from {hub.title}: {readable_bytes(total_bytes)}, "
        f"{readable_bytes(free_bytes)} free at {cache}"
    )
    listener({"event": "stage", "text": text})
    with reported_growth(cache, total_bytes, listener):
        return hub.fetch(model, list(missing))
