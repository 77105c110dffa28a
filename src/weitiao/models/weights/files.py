"""The safetensors files that hold a model's weights, and checks that they agree with their index."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from ...core.errors import ModelError, Problem, raise_all

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NAMES_SHOWN = 5


def some(names: Collection[str]) -> str:
    """Return the first few of some names as text, and how many more there are."""
    shown = ", ".join(sorted(names)[:NAMES_SHOWN]) or "none"
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers reads a folder's weights from, whether or not they exist; raises ModelError
    for an index that cannot be read."""
    if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
        return [folder / SINGLE]
    return [folder / name for name in sorted(set(weight_map(folder).values()))]


def weight_map(folder: Path) -> dict[str, str]:
    """Return the index's tensor name -> file name; raises ModelError for an index that cannot be read."""
    path = folder / INDEX
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if found and all(Path(name).name == name for name in found.values()):
            return dict(found)
        problem = "weight_map holds no names of files beside it"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise ModelError(
        Problem(
            "the index of the model's weight files cannot be read",
            f"{path} ({problem})",
            "weight_map: tensor name -> file name",
            "download the model again",
        )
    )


def tensor_names(file: Path) -> set[str]:
    """Return the names of the tensors in a safetensors file; raises ModelError for a file that cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return set(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(unreadable(file, error)) from error


def unreadable(file: Path, error: Exception) -> Problem:
    """Describe a safetensors file that cannot be read."""
    return Problem(
        f"{file.name} is not a complete safetensors file",
        f"{file} ({error})",
        "the file as it was written",
        "download it again",
    )


def require_files(folder: Path) -> None:
    """Raise ModelError if weight files are missing or unreadable, hold a tensor twice, or do not match the index."""
    files = weight_files(folder)
    missing = {path.name for path in files if not path.is_file()}
    if missing:
        raise ModelError(
            Problem(
                f"{folder} lacks {len(missing)} of its weight files",
                some(missing),
                f"every file that {INDEX} names",
                "download the model again",
            )
        )
    held = {path.name: tensor_names(path) for path in files}
    if not (folder / SINGLE).is_file():
        raise_all(ModelError, _disagreements(folder, held))


def _disagreements(folder: Path, held: dict[str, set[str]]) -> list[Problem]:
    """Return a problem for tensors in two files, and one for tensors that are not where the index says."""
    remedy = "download the model again"
    counts = Counter(name for names in held.values() for name in names)
    twice = {name for name, count in counts.items() if count > 1}
    astray = {name for name, file in weight_map(folder).items() if name not in held[file]}
    problems = []
    if twice:
        what = f"{len(twice)} tensors are in two weight files of {folder}"
        problems.append(Problem(what, some(twice), "every tensor once", remedy))
    if astray:
        what = f"{len(astray)} tensors are not in the file that the index of {folder} names"
        problems.append(Problem(what, some(astray), f"files as {INDEX} describes them", remedy))
    return problems
