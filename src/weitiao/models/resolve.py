"""From a model's name to its location: alias, .gguf file, local folder or hub id; anything else is refused with a
reason."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, Problem, WeitiaoError, nearest
from .aliases import ALIASES, FORMS, spelt_alike
from .gguf import dequantized_folder, folder_of
from .hubs.download import (
    PICKLES,
    fetch,
    hub_named,
    is_whole,
    pickled,
    require_safetensors,
    silent,
    small_files,
)
from .hubs.hub import HubModel, chosen_hub
from .known import known
from .settings import ModelSettings
from .weights.complete import embedded_adapter
from .weights.files import INDEX, SINGLE, require_files

MODELSCOPE = "modelscope:"
"""Optional prefix of a ModelScope id, as for data sets."""
FOLDERS_SHOWN = 3
"""Most models inside a folder that an error names."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def public_name(name: str) -> str:
    """Return a model's name as others can use it: the hub id (also for an alias), the last part of a path, else the
    name itself."""
    path = Path(name).expanduser()
    if path.exists():
        return path.resolve().name
    found = known(name)
    return found.hub if found else name.removeprefix(MODELSCOPE)


@dataclass(frozen=True)
class Resolved:
    """Where a model is."""

    name: str
    """The name as the user wrote it."""
    path: str
    """A local folder, or a hub id."""
    revision: str | None
    """Branch, tag or commit of a hub id; None for a folder."""
    local: bool
    """Whether `path` is a folder."""
    source: HubModel | None = None
    """The model's entry on a hub, whose weights may still need downloading; None for a local model."""
    whole: bool = True
    """Whether all its files are on this disk, so that the hub need not be asked."""

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for transformers' `from_pretrained`: the revision, and whether to use only the hub's cache."""
        return {"revision": self.revision, "local_files_only": not self.local and self.whole}


def resolve(settings: ModelSettings) -> Resolved:
    """Find the model that a name means; raises ModelError with the nearest existing names and the accepted forms.

    A GGUF is dequantised into the cache on its first use. A hub model's config is fetched, so that a wrong id, a gated
    model or a missing network is reported before anything else is done.
    """
    name, path = settings.name, Path(settings.name).expanduser()
    if path.is_dir():
        _require_model_folder(path)
        return Resolved(name, str(path.resolve()), None, True)
    if path.is_file() and path.suffix == ".gguf":
        return Resolved(name, str(dequantized_folder(path)), None, True)
    if name in ALIASES:
        return Resolved(name, str(dequantized_folder(ALIASES[name].path)), None, True)
    if path.is_file():
        folder = str(path.parent) if (path.parent / "config.json").is_file() else ""
        raise ModelError(Problem("this file is not a model", name, FORMS, folder))
    if not HUB_ID.fullmatch(name.removeprefix(MODELSCOPE)) or path.suffix == ".gguf":
        raise ModelError(Problem("there is no model at this path", name, FORMS, " or ".join(_nearby(name))))
    try:
        return _on_a_hub(hub_model(settings), name)
    except ModelError as error:
        here = _beside(Path(name))
        if not here:
            raise
        first, *others = error.problems  # a similarly spelt folder is more likely meant than a hub model
        raise ModelError(
            replace(first, remedy=" or ".join(filter(None, [*here, first.remedy]))), *others
        ) from error


def hub_model(settings: ModelSettings) -> HubModel:
    """Return the hub model that a name means: by alias, or by its id on this hub or the other.

    Raises SettingsError for an unknown hub, and ModelError for an alias whose model has no known id on this hub.
    """
    prefixed = settings.name.startswith(MODELSCOPE)
    name = settings.name.removeprefix(MODELSCOPE)
    hub = "modelscope" if prefixed else chosen_hub(settings.hub)
    found = known(name)
    if found is None:
        return HubModel(hub, name, settings.revision)
    on_hub = found.modelscope if hub == "modelscope" else found.hub
    if on_hub is None and "/" not in name:
        what = f"no model of ModelScope is known for the alias {name}"
        remedy = f"--hub huggingface, which has it as {found.hub}"
        raise ModelError(Problem(what, name, "its id on ModelScope, such as owner/name", remedy))
    return HubModel(hub, on_hub or name, settings.revision)


def _on_a_hub(model: HubModel, name: str) -> Resolved:
    """Check that a hub or its cache has a model, so that a wrong id, a gated model or a missing network is reported
    now."""
    hub = hub_named(model.hub)
    folder = hub.cached(model)
    if folder is None:
        files = hub.files(model)
        require_safetensors(model, files)
        if model.hub == "modelscope":  # transformers itself downloads these from Hugging Face
            small = {file: files[file] for file in small_files(files)}
            folder = fetch(hub, model, small, silent)
    if model.hub == "modelscope":
        return Resolved(name, str(folder), None, True, model)
    return Resolved(name, model.id, model.revision, False, model, folder is not None and is_whole(folder))


def convert_first(name: str, say: Callable[[str], None]) -> None:
    """Convert the GGUF that a name means to fp32, unless that is done, and say so: it takes a while, once.

    Errors in the file are ignored here: `resolve` raises them.
    """
    try:
        path = ALIASES[name].path if name in ALIASES else Path(name).expanduser()
        if path.is_file() and path.suffix == ".gguf" and not folder_of(path).is_dir():
            say(f"converting {path.name} to fp32; the copy is kept for the next time")
            dequantized_folder(path)
    except WeitiaoError:
        return


def _nearby(name: str) -> list[str]:
    """Return similarly spelt aliases and files in the folder that the name points into."""
    return spelt_alike(name) + _beside(Path(name).expanduser())


def _beside(path: Path) -> list[str]:
    """Return similarly spelt entries of the folder that a path points into."""
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return [str(path.parent / near) for near in nearest(path.name, siblings)]


def _require_model_folder(folder: Path) -> None:
    """Raise ModelError if a folder holds no transformers model with safetensors weights."""
    if not (folder / "config.json").is_file():
        raise ModelError(_not_a_model_folder(folder))
    if (folder / "adapter_config.json").is_file():
        raise ModelError(embedded_adapter(str(folder)))
    if not (folder / SINGLE).is_file() and not (folder / INDEX).is_file():
        raise ModelError(_no_safetensors(str(folder), sorted(p.name for p in folder.iterdir())))
    require_files(folder)


def _not_a_model_folder(folder: Path) -> Problem:
    files = sorted(p.name for p in folder.iterdir())
    ggufs = [str(folder / name) for name in files if name.endswith(".gguf")]
    inside = sorted(str(one.parent) for one in folder.glob("*/config.json"))
    remedy = " or ".join([*ggufs, *inside][:FOLDERS_SHOWN]) or FORMS
    if "adapter_config.json" in files:
        remedy = f"model.name={_base_of(folder)} model.adapter={folder}"
    holds = ", ".join(files[:8]) or "nothing"
    return Problem(
        "this folder holds no model", f"{folder} ({holds})", "config.json and model.safetensors", remedy
    )


def _base_of(adapter: Path) -> str:
    """Return the base that an adapter names, or BASE if it names none."""
    try:
        described = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        return str(described["base_model_name_or_path"] or "BASE")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "BASE"


def _no_safetensors(name: str, files: list[str]) -> Problem:
    """Describe a model without safetensors: its weights are pickled, or it has none."""
    pickles = [file for file in files if file.endswith(PICKLES)]
    if not pickles:
        return Problem(f"{name} holds a config but no weights", ", ".join(files[:8]), "model.safetensors")
    return pickled(shlex.quote(name), pickles)
