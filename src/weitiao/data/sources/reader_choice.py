"""Chooses the reader for a file, and describes files that are missing or of an unknown kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ...core.errors import DataError, Problem, nearest
from ..bad_rows import Found
from ..settings import SourceSettings, require_usable_name
from .decompression import Unpacked, counted_rows
from .file_signatures import disguise
from .readers import READERS
from .readers._base import DataFile, Reader, bare_suffix
from .text_files import COMPRESSED, HEAD_BYTES, reading

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MODELSCOPE = "modelscope:"


@cache
def readers() -> dict[str, Reader]:
    """Return suffix -> reader; heavy packages are imported only when a file is read."""
    made = [READERS.load(name)() for name in READERS.names()]
    return {suffix: one for one in made for suffix in one.suffixes}


def reader_of(path: Path) -> Reader | None:
    """Return the reader for a file by its suffix; None if there is none."""
    found = readers().get(bare_suffix(path))
    return (
        found if found is not None and (found.compressible or path.suffix.lower() not in COMPRESSED) else None
    )


def is_hub_id(name: str) -> bool:
    """Return whether a path is the id of a data set on the Hub: owner/name, with no such file or folder here."""
    path = Path(name).expanduser()
    return (
        bool(HUB_ID.fullmatch(name))
        and reader_of(path) is None
        and not _exists(path)
        and not path.parent.is_dir()
    )


def _exists(path: Path) -> bool:
    with reading(path):
        return path.exists() or path.is_symlink()


def read_file(path: Path, source: SourceSettings, notes: list[str]) -> Found:
    """Return the rows of one file; raises DataError at once if it is missing, empty or of an unknown kind."""
    if problem := unusable_name(path):
        raise DataError(problem)
    with reading(path):
        there, empty = path.is_file(), path.is_file() and not path.stat().st_size
    if not there:
        raise DataError(_missing(path))
    reader = reader_of(path)
    if reader is None:
        raise DataError(_unknown_kind(path))
    if empty:
        raise DataError(Problem(f"{path} is empty", "0 bytes", "at least one row"))
    rows = reader.read(DataFile(path, source, notes))
    if path.suffix.lower() not in COMPRESSED:
        return rows
    return counted_rows(rows, Unpacked(path, source.max_unpack_ratio))


def unusable_name(path: Path) -> Problem | None:
    """Return the problem of a file with an unusable name (see `require_usable_name`); None for any other."""
    try:
        require_usable_name(str(path))
    except ValueError as error:
        return Problem("a data file has a name that cannot be used", str(error))
    return None


def _unknown_kind(path: Path) -> Problem:
    """Return the problem of a file that no reader supports; its first bytes may tell what it is."""
    with reading(path), path.open("rb") as content:
        found = disguise(content.read(HEAD_BYTES), (path.suffix.lower(),))
    if found is None:
        remedy = "convert it to one of these; JSON lines is the simplest"
        return Problem("this kind of file cannot be read", str(path), extensions(), remedy)
    return Problem(f"the content of {path} is {found.title}", str(path), extensions(), found.remedy)


def _missing(path: Path) -> Problem:
    """Return the problem of a missing file, with the most similar names in its folder."""
    what, folder = "the data file does not exist", path.parent
    if path.is_symlink():
        what = f"{path} is a broken or circular link"
    elif path.exists() and not path.is_dir():
        what = f"{path} is a pipe or a device, which can be read only once"
        return Problem(
            what, str(path), "a file", f"write its content to a file first: cat '{path}' > rows.jsonl"
        )
    elif not folder.is_dir():
        return Problem(what, str(path), "a file that exists", f"the folder {folder} does not exist")
    similar = nearest(path.name, [p.name for p in _listed(folder) if reader_of(p) is not None])
    expected = "a file that exists, or a data set of the hub as owner/name"
    return Problem(what, str(path), expected, " or ".join(str(folder / name) for name in similar))


def _listed(folder: Path) -> Iterator[Path]:
    with reading(folder):
        yield from folder.iterdir()


def extensions() -> str:
    """Return which suffixes a file may have, as words for a message."""
    return f"a file ending in {', '.join(sorted(readers()))}; text files may also end in .gz or .zst"
