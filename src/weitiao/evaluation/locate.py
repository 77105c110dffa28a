"""Finds what a name refers to: a run, a checkpoint, an adapter or a plain model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import Problem, RunFolderError, SettingsError, raise_all
from ..core.events import read_events
from ..core.run_folder import RunFolder
from ..core.settings import check_settings, parse_settings, read_yaml
from ..data.settings import DataSettings
from ..data.templates.system_prompts import SystemPrompts
from ..data.templates.template_choice import AUTO, Wording
from ..engine.checkpoint import MANIFEST, newest_whole
from ..models.adapter_files import CONFIG as ADAPTER_CONFIG
from ..models.adapter_files import adapter_settings
from ..models.aliases import ALIASES, FORMS
from ..models.known import known
from ..models.settings import ModelSettings

if TYPE_CHECKING:
    from ..models.hubs.hub import HubName


@dataclass(frozen=True)
class Source:
    """What a name refers to, before any weights are loaded."""

    base: ModelSettings
    """The model before training."""
    adapter: Path | None = None
    """The adapter trained on it."""
    trained: ModelSettings | None = None
    """The complete trained model, where the method changed the model's own weights."""
    wording: Wording = AUTO
    """How conversations become text: template and system prompt."""
    checkpoint: Path | None = None
    """The checkpoint of an unfinished run, with the weights trained so far."""
    run: Path | None = None
    """The folder of the run that the checkpoint belongs to."""
    systems: SystemPrompts | None = None
    """The system prompts of the rows a run trained on, if known."""


def locate(
    name: str, base: str | None = None, allow_other_base: bool = False, hub: HubName | None = None
) -> Source:
    """Find what the name of a run, a checkpoint, an adapter or a model refers to; raises RunFolderError, SettingsError.

    `base` says where the base is, if it cannot be found; `allow_other_base` accepts a changed base; `hub` is where it
    is downloaded from.
    """
    source = _locate(Path(name).expanduser(), name, base)
    changes: dict[str, Any] = {"name": base, "revision": None} if base else {}
    if allow_other_base:
        changes["allow_other_base"] = True
    if hub is not None:
        changes["hub"] = hub
    return replace(source, base=source.base.model_copy(update=changes))


def _locate(folder: Path, name: str, base: str | None) -> Source:
    run = RunFolder(folder)
    if run.run_yaml.is_file():
        return _source_of_run(run)
    if (folder / MANIFEST).is_file():
        return _source_of_checkpoint(folder.resolve())
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        parent = RunFolder(folder.resolve().parent)
        if parent.run_yaml.is_file() and parent.adapter == folder.resolve():
            return _source_of_run(parent)
        return Source(
            parse_settings(ModelSettings, {"name": base or _base_of_adapter(folder)}), adapter=folder
        )
    _require_no_other_place(folder, name)
    return Source(parse_settings(ModelSettings, {"name": name}))


def _require_no_other_place(folder: Path, name: str) -> None:
    """Raise RunFolderError for a path that is neither a model nor a run, where a run was probably meant."""
    remedies: list[str] = []
    if folder.exists():
        is_model = folder.suffix == ".gguf" or (folder / "config.json").is_file()
        remedies = [] if is_model else _remedies_for(folder)
        what = "this folder holds no run and no model" if folder.is_dir() else "this file is not a model"
    else:
        # A hub id can look like a path, so this error is raised only if there are runs where it would point to.
        is_path = folder.parent != Path() and known(name) is None
        near = RunFolder(folder).similar_runs() or RunFolder(folder.parent).runs_about()
        remedies, what = near if is_path else [], "there is no run with this name"
    if remedies:
        raise RunFolderError(Problem(what, name, "a run, an adapter or a model", " or ".join(remedies)))


def _remedies_for(path: Path) -> list[str]:
    """Return the runs around or inside a path; for a folder without a run or a model, those beside it, or what to name.

    [] for a file and for a folder that holds models, since `resolve` says more about them.
    """
    run = RunFolder(path)
    holds_models = path.is_dir() and any(chain(path.glob("*.gguf"), path.glob("*/config.json")))
    if (found := run.runs_about()) or path.is_file() or holds_models:
        return found
    beside = run.similar_runs() or RunFolder(path.resolve().parent).runs_about()
    return beside or [f"the folder that `weitiao train --out RUN` made, or a model: {FORMS}"]


def _source_of_run(run: RunFolder) -> Source:
    base, wording = _base_and_wording(run)
    known = Source(base, wording=wording, systems=_systems(run))
    if (run.adapter / ADAPTER_CONFIG).is_file():
        return replace(known, adapter=run.adapter)
    if (run.model / "config.json").is_file():
        trained = base.model_copy(update={"name": str(run.model), "revision": None})
        return replace(known, trained=trained)
    whole, _ = newest_whole(run.checkpoints)
    remedies = [f"weitiao train --resume {run.root}", *([f"{whole}, its newest checkpoint"] if whole else [])]
    raise RunFolderError(
        Problem(
            "this run has no result yet",
            str(run.root),
            f"{run.adapter.name}/ or {run.model.name}/, written when training is done",
            " or ".join(remedies),
        )
    )


def _source_of_checkpoint(folder: Path) -> Source:
    run = RunFolder(folder.parent.parent)
    if not run.run_yaml.is_file():
        raise RunFolderError(
            Problem(
                "a checkpoint is opened from the folder of its run, whose run.yaml says what it was trained on",
                str(folder),
                f"{run.run_yaml}",
            )
        )
    base, wording = _base_and_wording(run)
    return Source(base, wording=wording, checkpoint=folder, run=run.root, systems=_systems(run))


def _systems(run: RunFolder) -> SystemPrompts | None:
    """Return the system prompts that a run reported for its rows; None if it reported none."""
    told = next((event for event in read_events(run.events) if event["event"] == "data"), {})
    fields = told.get("systems")
    return SystemPrompts.of_fields(fields) if isinstance(fields, dict) else None


def _base_and_wording(run: RunFolder) -> tuple[ModelSettings, Wording]:
    raw = read_yaml(run.run_yaml)
    base = parse_settings(ModelSettings, {**_block(raw, "model", "name"), "adapter": None}, "model")
    block = _block(raw, "data", "sources")
    names: Sequence[str] = ("template", "task_templates", "system", "fill")
    chosen = {name: block[name] for name in names if name in block}
    # The path of the data does not matter here, and the data may be gone: any path that exists will do.
    data, problems = check_settings(DataSettings, {**chosen, "sources": str(run.run_yaml)}, "data")
    raise_all(SettingsError, [replace(one, got=f"{one.got} in {run.run_yaml}") for one in problems])
    return base, data.wording if data else AUTO


def _block(raw: dict[str, Any], key: str, short_form: str) -> dict[str, Any]:
    """Return a block of a run file; its short form is expanded to the field `short_form`."""
    block = raw.get(key, {})
    return dict(block) if isinstance(block, dict) else {short_form: block}


def _base_of_adapter(folder: Path) -> str:
    """Return the name or path of an adapter's base; raises RunFolderError if it is unknown."""
    from ..models.fingerprint import read_fingerprint, remembered_place

    name = str(adapter_settings(folder).get("base_model_name_or_path") or "")
    if not name:
        raise RunFolderError(
            Problem(
                "the adapter does not say which model it was trained on",
                str(folder / ADAPTER_CONFIG),
                "base_model_name_or_path",
                "--base MODEL",
            )
        )
    print_of_base = read_fingerprint(folder)
    if print_of_base is None or name in ALIASES or known(name) or "/" in name or Path(name).exists():
        return name
    place = remembered_place(print_of_base)
    if place is None:
        raise RunFolderError(
            Problem(
                f"the adapter was trained on a model named {name}, which was not found",
                str(folder),
                "its folder, its .gguf file or its hub id",
                "--base MODEL",
            )
        )
    return place
