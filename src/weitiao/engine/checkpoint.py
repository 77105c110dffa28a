"""Crash-safe checkpoints: staging folder, manifest of sizes and sha256, fsync, rename.

    checkpoints/step-00000100/
        trainable.safetensors   the trained parameters
        extra.safetensors       other tensors of the method, such as an initial adapter
        optimizer.safetensors   the optimizer's tensors
        state.json              the optimizer's numbers, the schedule, the progress and the run's identity
        MANIFEST.json           size and sha256 of each file; written last

No random state is saved: every random draw is a function of (seed, step), so there is nothing to restore.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..core.errors import NotFiniteError, Problem, RunFolderError
from ..core.files import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    need_disk,
    read_json_object,
    sha256_of,
    sync_file,
    sync_folder,
    write_json,
)
from ..core.settings import DECIDES_NOTHING, Settings

# This file holds settings, which are read before torch is imported: torch and safetensors are imported where needed.
if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
MANIFEST = "MANIFEST.json"
FILES = frozenset({"trainable.safetensors", "extra.safetensors", "optimizer.safetensors", "state.json"})
STATE = {"step": int, "optimizer": dict, "schedule": dict, "progress": dict, "identity": dict}
"""Required keys of state.json and the types of their values."""
STATE_BYTES = 1 << 20
"""Upper bound on the size of state.json and the manifest together."""
NAME = "step-{:08d}"
STAGING = ".staging-"


@dataclass(frozen=True)
class Snapshot:
    """Everything needed to resume a run exactly."""

    step: int
    """Steps completed."""
    trainable: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    """The optimizer's state_dict()."""
    schedule: Mapping[str, Any]
    """The schedule's state_dict()."""
    progress: Mapping[str, Any]
    """The loop's own counters, as plain numbers."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors the method needs besides its trainable parameters."""
    identity: Mapping[str, str] = field(default_factory=dict)
    """Which run it belongs to: fingerprints of the run file, the data and the base model, by name."""


def save_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write a checkpoint under `folder` and return its path; raises NotFiniteError, ResourceError, OSError.

    The folder appears by one rename, so it is complete or absent. An intact checkpoint of the same step is kept.
    Staging folders left by crashed processes are deleted first, because they may occupy the disk space needed.
    """
    target = folder / NAME.format(snapshot.step)
    if target.is_dir() and not damage_of(target):
        return target
    state, files = _as_files(snapshot)
    for name, tensors in files.items():
        require_finite_tensors(tensors, f"{name} of step {snapshot.step}")
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    for left in folder.glob(f"{STAGING}*"):
        shutil.rmtree(left)
    size_bytes = sum(t.numel() * t.element_size() for tensors in files.values() for t in tensors.values())
    need_disk(folder, size_bytes + STATE_BYTES, f"the checkpoint of step {snapshot.step}")
    from safetensors.torch import save_file

    staging = folder / f"{STAGING}{os.getpid()}-{target.name}"
    try:
        staging.mkdir(mode=PRIVATE_FOLDER)
        for name, tensors in files.items():
            save_file(tensors, staging / f"{name}.safetensors")
            (staging / f"{name}.safetensors").chmod(PRIVATE_FILE)
        write_json(staging / "state.json", state, PRIVATE_FILE)
        _publish(staging, target, snapshot.step)
    finally:  # after an interruption or a full disk, do not leave the partial folder behind
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _as_files(snapshot: Snapshot) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Return the content of state.json and the tensors of each safetensors file."""
    from .state_files import take_tensors, unshared

    optimizer_tensors: dict[str, Tensor] = {}
    state = {
        "format": FORMAT,
        "step": snapshot.step,
        "optimizer": take_tensors(dict(snapshot.optimizer), "optimizer", optimizer_tensors),
        "schedule": take_tensors(dict(snapshot.schedule), "schedule", optimizer_tensors),
        "progress": dict(snapshot.progress),
        "identity": dict(snapshot.identity),
    }
    files = {"trainable": snapshot.trainable, "extra": snapshot.extra, "optimizer": optimizer_tensors}
    return state, {name: unshared(tensors) for name, tensors in files.items()}


def _publish(staging: Path, target: Path, step: int) -> None:
    """Sync a staging folder to disk, write its manifest, and rename it to `target`."""
    files = sorted(p for p in staging.iterdir() if p.name != MANIFEST)
    for path in files:
        sync_file(path)
    entries = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in files}
    write_json(staging / MANIFEST, {"format": FORMAT, "step": step, "files": entries}, PRIVATE_FILE)
    if target.exists():  # a damaged checkpoint of the same step
        shutil.rmtree(target)
    staging.rename(target)
    sync_folder(target.parent)


def require_finite_tensors(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise NotFiniteError naming the tensors that hold a NaN or inf."""
    bad = [name for name, t in tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if bad:
        what = f"{where} holds NaN or inf, so it is not written"
        raise NotFiniteError(
            Problem(what, ", ".join(bad[:8]), "finite numbers", "a new run with a lower train.lr")
        )


def damage_of(path: Path) -> str:
    """Return what is wrong with a checkpoint; an empty string if every file matches its manifest."""
    try:
        manifest = read_json_object(path / MANIFEST, RunFolderError)
        kind, step = manifest["format"], manifest["step"]
        entries = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (RunFolderError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest cannot be read ({type(error).__name__})"
    if kind != FORMAT:
        return f"its format is {kind!r}, and this version reads {FORMAT}"
    if not isinstance(step, int) or path.name != NAME.format(step) or set(entries) != FILES:
        return f"its manifest is for step {step!r} with {', '.join(sorted(entries))}"
    damages = (_damage_of_file(path / name, *entries[name]) for name in entries)
    return next(filter(None, damages), "") or _damage_of_content(path)


def _damage_of_content(path: Path) -> str:
    """Return what is wrong with the content of files that match their manifest, such as another program's files."""
    from safetensors import SafetensorError, safe_open

    try:
        state = read_json_object(path / "state.json", RunFolderError)
        for name in FILES - {"state.json"}:
            with safe_open(path / name, framework="pt"):
                pass
    except (RunFolderError, SafetensorError, OSError) as error:
        return f"a file cannot be read ({str(error).partition(chr(10))[0]})"
    wrong = [name for name, kind in STATE.items() if not isinstance(state.get(name), kind)]
    return f"state.json holds no {', '.join(wrong)} of the expected type" if wrong else ""


def _damage_of_file(path: Path, size_bytes: int, sha256: str) -> str:
    """Return what is wrong with one file of a checkpoint, or an empty string."""
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != size_bytes:
        return f"{path.name} has {path.stat().st_size} bytes, the manifest says {size_bytes}"
    if sha256_of(path) != sha256:
        return f"{path.name} has changed since it was written (sha256)"
    return ""


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints under a folder, newest first, damaged ones included, staging folders excluded."""
    return sorted(folder.glob("step-" + 8 * "[0-9]"), reverse=True) if folder.is_dir() else []


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest undamaged checkpoint, and why each newer one was skipped."""
    passed_over: list[str] = []
    for path in list_checkpoints(folder):
        damage = damage_of(path)
        if not damage:
            return path, passed_over
        passed_over.append(f"{path.name} is damaged: {damage}")
    return None, passed_over


def load_checkpoint(path: Path, identity: Mapping[str, str]) -> Snapshot:
    """Verify and read a checkpoint; raises RunFolderError if it is damaged or belongs to another run."""
    from safetensors.torch import load_file

    from .state_files import put_tensors

    damage = damage_of(path)
    if damage:
        raise RunFolderError(
            Problem(f"the checkpoint is damaged: {damage}", str(path), "the files as written")
        )
    state = require_identity(path, identity)
    tensors = load_file(path / "optimizer.safetensors")
    try:
        optimizer, schedule = (put_tensors(state[name], tensors) for name in ("optimizer", "schedule"))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = "the checkpoint's optimizer state cannot be read"
        raise RunFolderError(Problem(what, f"{path}: {error!r}", "the files as written")) from error
    return Snapshot(
        step=state["step"],
        trainable=load_file(path / "trainable.safetensors"),
        extra=load_file(path / "extra.safetensors"),
        optimizer=optimizer,
        schedule=schedule,
        progress=state["progress"],
        identity=state["identity"],
    )


def require_identity(path: Path, identity: Mapping[str, str]) -> dict[str, Any]:
    """Return the state.json of an undamaged checkpoint; raises RunFolderError if it belongs to another run."""
    state = read_json_object(path / "state.json", RunFolderError)
    other = [name for name, value in identity.items() if state["identity"].get(name) != value]
    if other:
        raise RunFolderError(
            Problem(
                f"the checkpoint belongs to another run: its {' and '.join(other)} differ",
                str(path),
                "the same run file, data and base model as when it was written",
                "start a new run in another --out, or put the data, the settings and the base back",
            )
        )
    return state


def prune(folder: Path, keep: int, step: int, protected: frozenset[int]) -> None:
    """Delete all checkpoints except the newest `keep` up to `step` (just saved) and those of protected steps.

    Checkpoints after `step` are damaged ones that resuming skipped, so they must not count among the newest.
    """
    steps = {path: int(path.name.removeprefix("step-")) for path in list_checkpoints(folder)}
    newest = [path for path in steps if steps[path] <= step][:keep]
    for path in steps:
        if path not in newest and steps[path] not in protected:
            shutil.rmtree(path)


class CheckpointSettings(Settings):
    """When the run is saved, and what is kept."""

    save_every: Annotated[int | None, DECIDES_NOTHING] = Field(default=None, ge=1)
    """Steps between checkpoints. Default: at the end of each epoch and at least every 200 steps."""
    keep_checkpoints: Annotated[int, DECIDES_NOTHING] = Field(default=2, ge=1)
    """Number of newest checkpoints to keep; the best one is kept as well."""
    keep_best: bool = True
    """Use the weights with the lowest held-out loss as the run's result instead of the last ones."""
