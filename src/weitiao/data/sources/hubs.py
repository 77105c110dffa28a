"""Reading data sets from the Hugging Face Hub and ModelScope."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from ...core.errors import DataError, Problem, missing_extra
from ..bad_rows import Found
from ..conversation import Row
from ..settings import SourceSettings
from .folders import read_folder
from .reader_choice import MODELSCOPE

OWNER_AND_NAME = re.compile(r"[\w.-]+/[\w.-]+")
REMEDY = "check the name, data.sources.split and .subset, and the connection (HF_ENDPOINT names a mirror)"


def read_hub(source: SourceSettings) -> Found:
    """Stream the rows of one split of a data set on the Hub; raises DataError if it cannot be downloaded."""
    from datasets.exceptions import DatasetsError

    name = str(source.path)
    try:
        for number, fields in enumerate(_records(name, source.subset, source.split_read), start=1):
            yield Row(dict(fields), name, number)
    except (DatasetsError, OSError, ValueError) as error:
        expected = "a file that exists, or a data set of the hub that can be reached"
        problem = Problem(f"the data set {name} cannot be downloaded", str(error), expected, REMEDY)
        raise DataError(problem) from error


def _records(name: str, subset: str | None, split: str) -> Iterator[Mapping[str, Any]]:
    """Stream a data set; if it cannot be streamed, or is available only in the cache, load it memory-mapped."""
    import datasets

    try:
        streamed = iter(datasets.load_dataset(name, subset, split=split, streaming=True))
        first = next(streamed, None)
    except (OSError, NotImplementedError):
        yield from datasets.load_dataset(name, subset, split=split)
        return
    yield from chain([first] if first is not None else [], streamed)


def read_modelscope(source: SourceSettings, notes: list[str]) -> Found:
    """Download the files of a ModelScope data set and yield their rows; raises DataError, MissingExtraError."""
    name = str(source.path).removeprefix(MODELSCOPE)
    if not OWNER_AND_NAME.fullmatch(name):
        what = "this is not the name of a ModelScope data set"
        raise DataError(Problem(what, str(source.path), f"{MODELSCOPE}owner/name"))
    try:
        from modelscope_hub import HubApi, HubError, ProgressCallback
    except ImportError as error:
        raise missing_extra("modelscope-hub", "modelscope", f"the ModelScope data set {name}") from error
    shows_nothing = [ProgressCallback]
    try:
        folder = Path(HubApi().download_repo(name, "dataset", progress_callbacks=shows_nothing))
    except (HubError, OSError, ValueError) as error:
        expected = "owner/name of a ModelScope data set that can be reached"
        raise DataError(Problem(f"the data set {name} cannot be downloaded", str(error), expected)) from error
    return read_folder(folder / source.subset if source.subset else folder, source, notes)
