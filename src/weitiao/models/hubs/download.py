"""Downloading a hub's model: which files are needed, whether the disk has room for them, and progress."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ...core.errors import ModelError, Problem
from ...core.events import Event, Listener
from ...core.files import existing_parent, need_disk
from ...core.folder_growth import reported_growth
from ...core.units import readable_bytes
from ..weights.files import INDEX, SINGLE, weight_files, weight_map
from .hub import Hub, HubModel, HubName

SMALL_BYTES = 64 << 20
"""The size limit of small files; no config, vocabulary or template is larger."""
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
"""Suffixes of weight files."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
"""Those of them that are Python pickles."""


def silent(_: Event) -> None:
    """Ignore an event."""


def small_files(files: Mapping[str, int]) -> list[str]:
    """Return the top-level files that are not weights: config, vocabulary, template, code."""
    return [
        name
        for name, size in files.items()
        if "/" not in name and size <= SMALL_BYTES and not name.endswith(HEAVY)
    ]


def hub_named(name: HubName) -> Hub:
    """Return a hub by name; imports its client."""
    if name == "modelscope":
        from .modelscope import ModelScope

        return ModelScope()
    from .huggingface import HuggingFace

    return HuggingFace()


def has_weights(folder: Path) -> bool:
    """Return whether a folder holds every weight file that transformers would read."""
    return all(path.is_file() for path in weight_files(folder))


def is_whole(folder: Path) -> bool:
    """Return whether a folder of a hub's cache holds weights and a tokenizer, so that the hub is not needed."""
    return has_weights(folder) and (folder / "tokenizer_config.json").is_file()


def weights_of(hub: Hub, model: HubModel, files: Mapping[str, int]) -> list[str]:
    """Return the names of a model's small files and weight files; raises ModelError if it has no safetensors."""
    small = small_files(files)
    if SINGLE in files:
        return [*small, SINGLE]
    require_safetensors(model, files)
    if INDEX not in files:
        what = f"{model.id} has no file {SINGLE}"
        found = ", ".join(name for name in files if name.endswith(".safetensors"))
        raise ModelError(Problem(what, found, f"{SINGLE}, or {INDEX} and the files it names"))
    named = sorted(set(weight_map(hub.fetch(model, [INDEX])).values()))
    lacking = [name for name in named if name not in files]
    if lacking:
        what = f"{model.id} lacks files that {INDEX} names"
        raise ModelError(Problem(what, ", ".join(lacking[:8]), "every file of the index", "another revision"))
    return [*small, *named]


def require_safetensors(model: HubModel, files: Mapping[str, int]) -> None:
    """Raise ModelError if a hub's model has no safetensors; for pickled weights, with the command that converts
    them."""
    if any(name.endswith(".safetensors") for name in files):
        return
    pickles = [name for name in files if name.endswith(PICKLES)]
    if not pickles:
        what = f"{model.id} holds no weights that transformers can read"
        raise ModelError(Problem(what, ", ".join(list(files)[:8]), SINGLE))
    raise ModelError(pickled(model.id, pickles))


def pickled(name: str, files: list[str]) -> Problem:
    """Describe a model whose weights are pickled, with the command that converts them to safetensors."""
    return Problem(
        f"{name} stores its weights as Python pickles, which can run any code when they are opened",
        ", ".join(files),
        SINGLE,
        f"weitiao models convert {name}",
    )


def fetch(hub: Hub, model: HubModel, wanted: Mapping[str, int], listener: Listener) -> Path:
    """Download those of `wanted` (path -> bytes) that the cache lacks, and return their folder; raises ResourceError,
    ModelError."""
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
