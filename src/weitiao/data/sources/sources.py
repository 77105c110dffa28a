"""Opens sources as streams of rows: files, folders, data sets of a hub, entries of LLaMA-Factory's dataset_info.json,
and Python objects."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from ...core.errors import DataError, Problem, raise_all
from ..bad_rows import BadRow, Found
from ..conversation import Row
from ..settings import SourceSettings
from .dataset_info import expand_source
from .folders import read_folder
from .hubs import read_hub, read_modelscope
from .python_rows import python_rows
from .reader_choice import MODELSCOPE, is_hub_id, read_file
from .stream import Rows, Stream
from .text_files import reading
from .turn_tags import with_usual_tags

__all__ = ["Stream", "expand_source", "open_source", "read_source"]


def open_source(source: SourceSettings, seed: int = 0) -> Stream:
    """Open a source as a stream of rows, with `source.take` a random sample drawn with the seed; raises DataError.

    A source that names several entries of a dataset_info.json (`expand_source`) yields them one after the other.
    """
    with reading(Path(_name(source))):
        expanded = expand_source(source)
        streams = [_open_one(one, seed) for one in expanded.sources]
    if len(streams) == 1:
        (only,) = streams
        return Stream(only.name, only.source, only.begin, expanded.notes)
    return Stream(_name(source), source, partial(_one_behind_the_other, streams), expanded.notes)


def read_source(source: SourceSettings) -> Rows:
    """Read all rows of a source; raises DataError if it is missing, empty or unreadable."""
    stream, rows = open_source(source), Rows()
    for one in stream:
        if isinstance(one, Row):
            rows.rows.append(one)
        else:
            rows.bad.append(one)
    rows.notes += stream.notes
    return rows


def _open_one(source: SourceSettings, seed: int) -> Stream:
    """Open one source that `expand_source` returned; raises DataError if its file is missing or unreadable."""
    begin = partial(_rows, source)
    if source.path is not None and not source.path.startswith(MODELSCOPE) and not is_hub_id(source.path):
        _require_there(source)
    return Stream(_name(source), source, partial(_drawn, source, seed, begin) if source.take else begin)


def _require_there(source: SourceSettings) -> None:
    """Raise DataError for a file or folder that cannot be opened, before anything is read."""
    path = Path(str(source.path)).expanduser()
    if not path.is_dir():
        read_file(path, source, [])


def _name(source: SourceSettings) -> str:
    return "the list of rows" if source.path is None else source.path


def _rows(source: SourceSettings, notes: list[str]) -> Found:
    """Return the rows of a source from its beginning, with the usual tags of turns; raises DataError."""
    rows = _untranslated(source, notes)
    return with_usual_tags(rows, source.tags) if source.tags else rows


def _untranslated(source: SourceSettings, notes: list[str]) -> Found:
    if source.path is None:
        return python_rows(source.rows)
    path = Path(source.path).expanduser()
    if source.path.startswith(MODELSCOPE):
        return read_modelscope(source, notes)
    if path.is_dir():
        return read_folder(path, source, notes)
    return read_hub(source) if is_hub_id(source.path) else read_file(path, source, notes)


def _one_behind_the_other(streams: list[Stream], notes: list[str]) -> Found:
    """Yield the rows of several streams in turn; raises DataError with the problems of all of them."""
    problems: list[Problem] = []
    for stream in streams:
        try:
            yield from stream
        except DataError as error:
            problems += error.problems
        notes += stream.notes
    raise_all(DataError, problems)


def _drawn(source: SourceSettings, seed: int, begin: partial[Found], notes: list[str]) -> Found:
    """Yield all bad rows, then a random sample of `source.take` usable rows, in the order of the source.

    Reservoir sampling (Vitter 1985, https://doi.org/10.1145/3147.3165): memory grows only with `take`.
    """
    wanted = source.take or 0
    usable = 0

    def good(rows: Found, bad: list[BadRow]) -> Iterator[tuple[int, Row]]:
        nonlocal usable
        for one in rows:
            if isinstance(one, BadRow):
                bad.append(one)
            else:
                usable += 1
                yield usable, one

    bad: list[BadRow] = []
    rows = good(begin(notes), bad)
    kept = list(islice(rows, wanted))
    draw = random.Random(seed)
    for number, row in rows:
        place = draw.randrange(number)
        if place < wanted:
            kept[place] = number, row
    taken = (
        f"took {wanted} of its {usable} rows" if usable > wanted else f"has {usable} rows, and all were taken"
    )
    notes.append(f"{_name(source)}: {taken}")
    yield from bad
    yield from (row for _, row in sorted(kept, key=lambda one: one[0]))
