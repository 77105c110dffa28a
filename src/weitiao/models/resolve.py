"""From a model's name to where it lies: alias, .gguf file, local folder or hub id; everything else is refused
in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ModelError, Problem, WeitiaoError, nearest
from .aliases import ALIASES
from .gguf import dequantized_folder, folder_of
from .settings import ModelSettings
from .weight_files import INDEX, SINGLE, require_files
from .whole import embedded_adapter

FORMS = "a local folder, a .gguf file, a hub id such as owner/name, or an alias: " + ", ".join(
    sorted(ALIASES)
)

HUB_SECONDS = 20

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def public_name(name: str) -> str:
    """Return a model's name without the private part of a path: an alias or hub id as it is, a path's last part."""
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() else name


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
        raise ModelError(Problem("this file is not a model", name, FORMS, str(path.parent)))
    if not HUB_ID.fullmatch(name) or path.suffix == ".gguf":
        raise ModelError(Problem("there is no model at this path", name, FORMS, " or ".join(_nearby(name))))
    _require_hub_model(name, settings.revision)
    return Resolved(name, name, settings.revision, False)


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
    path = Path(name).expanduser()
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(name, ALIASES) + [str(path.parent / near) for near in nearest(path.name, siblings)]


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
    pickles = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if not pickles:
        return Problem(f"{name} holds a config and no weights", ", ".join(files[:8]), "model.safetensors")
    return Problem(
        f"{name} holds its weights as a Python pickle, which can run any code when it is opened",
        ", ".join(pickles),
        "model.safetensors",
        "a safetensors version of the model, or convert it in a place that may run its code "
        "(AutoModelForCausalLM.from_pretrained, then save_pretrained)",
    )


def _require_hub_model(name: str, revision: str | None) -> None:
    """Raise ModelError, saying which of the things that can be wrong it was, where the hub has no such model.

    What the hub's cache holds already is not asked for again.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        return
    # The hub's client raises its HTTP library's errors, and which library that is depends on its version.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    alike = " or ".join(_nearby(name))
    try:
        info = HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS)
    except GatedRepoError as error:
        what = "this hub model asks you to accept its terms first"
        raise ModelError(
            Problem(what, name, remedy="accept them on its page, then: hf auth login")
        ) from error
    except RevisionNotFoundError as error:
        what = f"{name} has no such revision"
        raise ModelError(Problem(what, str(revision), "a branch, tag or commit")) from error
    except RepositoryNotFoundError as error:
        remedy = alike or "hf auth login, if the model is private"
        raise ModelError(Problem("the hub has no such model", name, FORMS, remedy)) from error
    except (HTTPError, OSError) as error:
        what = "the model is no local folder, not in the hub's cache, and the hub cannot be reached"
        remedy = alike or "weitiao train --model smollm2-135m, which needs no network"
        raise ModelError(Problem(what, f"{name} ({error})", FORMS, remedy)) from error
    _require_safetensors(name, [sibling.rfilename for sibling in info.siblings or []])


def _require_safetensors(name: str, files: list[str]) -> None:
    if not any(file.endswith(".safetensors") for file in files):
        raise ModelError(_no_safetensors(name, files))
