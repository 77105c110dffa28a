"""From a model's name to where it lies: alias, .gguf file, local folder or hub id; everything else is refused
in words."""

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
"""What may stand before an id of ModelScope, as before that of a data set."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def public_name(name: str) -> str:
    """Return a model's name as others can use it: a hub's id, also for its alias; a path's last part; else as it is."""
    path = Path(name).expanduser()
    if path.exists():
        return path.resolve().name
    found = known(name)
    return found.hub if found else name.removeprefix(MODELSCOPE)


@dataclass(frozen=True)
class Resolved:
    """Where a model lies."""

    name: str
    """The name as it was written."""
    path: str
    """A local folder, or a hub id."""
    revision: str | None
    """Branch, tag or commit, of a hub id only."""
    local: bool
    """Whether `path` is a folder."""
    source: HubModel | None = None
    """The hub's model that it is, whose weights may still have to be downloaded."""
    whole: bool = True
    """Whether all of it is on this disk, so that the hub need not be asked."""

    @property
    def options(self) -> dict[str, Any]:
        """What transformers is told beside the path: the revision, and to ask no hub where nothing is lacking."""
        return {"revision": self.revision, "local_files_only": not self.local and self.whole}


def resolve(settings: ModelSettings) -> Resolved:
    """Find the model that a name means; raises ModelError with the nearest name there is, and what can be
    written.

    A GGUF is dequantised into the cache on its first use. A hub model's config is fetched, so that a wrong
    id, a gated model or a missing network is known before anything else is done.
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
        first, *others = error.problems  # a folder spelt alike is likelier meant than another model of a hub
        raise ModelError(
            replace(first, remedy=" or ".join(filter(None, [*here, first.remedy]))), *others
        ) from error


def hub_model(settings: ModelSettings) -> HubModel:
    """Return the hub's model that a name means, by its alias, or by its id on this hub or the other; raises
    SettingsError, and ModelError for an alias of a model that the hub is not known to have."""
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
    """Make sure that a hub has a model, or its cache: a wrong id, a gated model or a missing network is known now."""
    hub = hub_named(model.hub)
    folder = hub.cached(model)
    if folder is None:
        files = hub.files(model)
        require_safetensors(model, files)
        if model.hub == "modelscope":  # transformers itself reads the other hub's
            small = {file: files[file] for file in small_files(files)}
            folder = fetch(hub, model, small, silent)
    if model.hub == "modelscope":
        return Resolved(name, str(folder), None, True, model)
    return Resolved(name, model.id, model.revision, False, model, folder is not None and is_whole(folder))


def convert_first(name: str, say: Callable[[str], None]) -> None:
    """Make the fp32 form of a GGUF that a name means, where it is not there yet, and say so: it takes a while, once.

    What is wrong with the file is left to `resolve`, which raises it.
    """
    try:
        path = ALIASES[name].path if name in ALIASES else Path(name).expanduser()
        if path.is_file() and path.suffix == ".gguf" and not folder_of(path).is_dir():
            say(f"converting {path.name} to fp32, which is kept for the next time")
            dequantized_folder(path)
    except WeitiaoError:
        return


def _nearby(name: str) -> list[str]:
    """Return aliases, and what lies in the folder the name points into, that are spelt alike."""
    return spelt_alike(name) + _beside(Path(name).expanduser())


def _beside(path: Path) -> list[str]:
    """Return what lies in the folder that a path points into and is spelt alike."""
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return [str(path.parent / near) for near in nearest(path.name, siblings)]


def _require_model_folder(folder: Path) -> None:
    """Raise ModelError where a folder holds no transformers model with safetensors weights."""
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
    remedy = " or ".join(ggufs)
    if "adapter_config.json" in files:
        remedy = f"model.name={_base_of(folder)} model.adapter={folder}"
    holds = ", ".join(files[:8]) or "nothing"
    return Problem(
        "this folder holds no model", f"{folder} ({holds})", "config.json and model.safetensors", remedy
    )


def _base_of(adapter: Path) -> str:
    """Return the base that an adapter names, or BASE where it names none."""
    try:
        described = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        return str(described["base_model_name_or_path"] or "BASE")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "BASE"


def _no_safetensors(name: str, files: list[str]) -> Problem:
    """Say why weights in Python's pickle form are not read, or that there are none."""
    pickles = [file for file in files if file.endswith(PICKLES)]
    if not pickles:
        return Problem(f"{name} holds a config and no weights", ", ".join(files[:8]), "model.safetensors")
    return pickled(shlex.quote(name), pickles)
