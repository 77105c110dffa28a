"""Reading a folder: all data files in it, or the data set that `datasets` saved there."""

from __future__ import annotations

import json
import os
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ...core.errors import DataError, Problem, nearest, raise_all
from ..bad_rows import Found
from ..settings import SourceSettings
from .reader_choice import extensions, read_file, reader_of, unusable_name
from .split_names import SPLITS
from .text_files import reading

NO_DATA = (
    "README*", "LICENSE*", "CHANGELOG*", "requirements*.txt", "config.json", "*_config.json", "*_state.json",
    "dataset_info*.json", "dataset_dict.json", "state.json", "events.jsonl", "tokenizer.json", "vocab.json",
    "special_tokens_map.json", "package.json", "*.index.json",
)  # fmt: skip
"""Names of files next to the data that describe it, or that belong to a model or a run."""
SPLIT_NAME = re.compile(r"([a-z]+)(?=\d*(?:[-_.]|$))")
"""`train.jsonl`, `test-00000-of-00002.parquet`, `train1.json`: the split that a file's name begins with."""


def read_folder(folder: Path, source: SourceSettings, notes: list[str]) -> Found:
    """Yield the rows of all data files of a folder, sorted by name; raises DataError with the problems of all files."""
    with reading(folder):
        saved = _saved(folder, source)
    files = saved or _files(folder, source, notes)
    notes.append(f"{folder}: read {', '.join(str(file.relative_to(folder)) for file in files)}")
    problems: list[Problem] = []
    for file in files:
        try:
            yield from read_file(file, source, notes)
        except DataError as error:
            problems += error.problems
    raise_all(DataError, problems)


def _files(folder: Path, source: SourceSettings, notes: list[str]) -> list[Path]:
    """Return a folder's data files, and note which files were left out; raises DataError if there is none."""
    found = [path for path in _walk(folder) if reader_of(path) is not None]
    described = [path for path in found if any(fnmatch(path.name, name) for name in NO_DATA)]
    data = [path for path in found if path not in described]
    rows = [path for path in data if not _is_prose(path)]
    prose = [path for path in data if rows and _is_prose(path)]
    kept = _of_split(rows or data, source.split_read)
    others = [path for path in rows or data if path not in kept]
    for paths, why in (
        (described, "they describe the data"),
        (prose, "they are documents next to data files"),
        (others, f"they belong to a split other than {source.split_read}"),
    ):
        if paths:
            notes.append(f"{folder}: left out {', '.join(str(p.relative_to(folder)) for p in paths)}: {why}")
    if not kept:
        raise DataError(Problem("this folder has no data file", str(folder), extensions()))
    return kept


def _walk(folder: Path) -> list[Path]:
    """Return all files below a folder except hidden ones; links to folders are not followed, as they may form a
    cycle."""
    failures: list[OSError] = []
    found = [
        Path(where) / name
        for where, _, names in os.walk(folder, onerror=failures.append)
        for name in names
        if not any(part.startswith(".") for part in (Path(where) / name).relative_to(folder).parts)
    ]
    with reading(folder):
        if failures:
            raise failures[0]
    problems = [problem for path in found if reader_of(path) and (problem := unusable_name(path))]
    raise_all(DataError, problems)
    return sorted(path for path in found if path.is_file() or reader_of(path) is not None)


def _is_prose(path: Path) -> bool:
    reader = reader_of(path)
    return reader is not None and reader.prose


def _split_of(path: Path) -> str | None:
    named = SPLIT_NAME.match(path.name.lower())
    return SPLITS.get(named[1]) if named else None


def _of_split(paths: list[Path], wanted: str) -> list[Path]:
    """Return the files of the wanted split and those named after no split; all files if none has the wanted split."""
    mine = [path for path in paths if _split_of(path) == SPLITS.get(wanted, wanted)]
    return [path for path in paths if path in mine or _split_of(path) is None] if mine else paths


def _saved(folder: Path, source: SourceSettings) -> list[Path]:
    """Return the shards of a data set that `datasets` saved in the folder; empty if there is none; raises DataError."""
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        names = [str(name) for name in read_object(splits).get("splits", [])]
        if source.split_read not in names:
            near = " or ".join(f"data.sources.split={name}" for name in nearest(source.split_read, names))
            what = f"{folder} has no split {source.split_read!r}"
            raise DataError(Problem(what, source.split_read, "one of " + ", ".join(names), near))
        folder = folder / source.split_read
    state = folder / "state.json"
    shards = read_object(state).get("_data_files") if state.is_file() else None
    if not isinstance(shards, list):
        return []
    return [
        folder / str(shard["filename"]) for shard in shards if isinstance(shard, dict) and "filename" in shard
    ]


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file; raises DataError if it is not valid JSON or not an object."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(Problem(f"{path} cannot be read as JSON", str(error))) from error
    if not isinstance(value, dict):
        raise DataError(Problem(f"{path} is not an object", repr(value)[:60], "an object {...}"))
    return value
