"""One file: is it there, which reader is it for, and what to say where it is neither."""

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
    """Return the reader for each ending of a name; reading a file is what imports heavy packages."""
    made = [READERS.load(name)() for name in READERS.names()]
    return {suffix: one for one in made for suffix in one.suffixes}


def reader_of(path: Path) -> Reader | None:
    """Return the reader for a file by its name, or None where none reads such files."""
    found = readers().get(bare_suffix(path))
    return (
        found if found is not None and (found.compressible or path.suffix.lower() not in COMPRESSED) else None
    )


def is_hub_id(name: str) -> bool:
    """Whether a path is rather the id of a data set of the hub: owner/name, and no such folder or file here."""
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
    """Return the rows of one file; raises DataError here where it is missing or none that can be read."""
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
    """Describe a file whose name cannot be written into a report; None for any other."""
    try:
        require_usable_name(str(path))
    except ValueError as error:
        return Problem("a file of the data has a name that cannot be used", str(error))
    return None


def _unknown_kind(path: Path) -> Problem:
    """Describe a file that no reader is for, by what its first bytes say it is."""
    with reading(path), path.open("rb") as content:
        found = disguise(content.read(HEAD_BYTES), (path.suffix.lower(),))
    if found is None:
        remedy = "convert it to one of these; JSON lines is the simplest"
        return Problem("this kind of file cannot be read", str(path), f"a file {extensions()}", remedy)
    return Problem(f"{path} is {found.title}", str(path), f"a file {extensions()}", found.remedy)


def _missing(path: Path) -> Problem:
    """Describe a file that is not there, with the name most like it in its folder."""
    what, folder = "the data file is not there", path.parent
    if path.is_symlink():
        what = f"{path} is a link that leads nowhere, or to itself"
    elif path.exists() and not path.is_dir():
        what = f"{path} is a pipe or a device, which can be read but once"
        return Problem(
            what, str(path), "a file", f"write what it gives into a file first: cat '{path}' > rows.jsonl"
        )
    elif not folder.is_dir():
        return Problem(what, str(path), "a file that exists", f"the folder {folder} is missing")
    similar = nearest(path.name, [p.name for p in _listed(folder) if reader_of(p) is not None])
    expected = "a file that exists, or a data set of the hub as owner/name"
    return Problem(what, str(path), expected, " or ".join(str(folder / name) for name in similar))


def _listed(folder: Path) -> Iterator[Path]:
    with reading(folder):
        yield from folder.iterdir()


def extensions() -> str:
    """Name the endings that can be read."""
    return "ending in " + ", ".join(sorted(readers())) + ", the text ones also with .gz or .zst"
