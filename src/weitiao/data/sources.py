"""Sources to rows: json, jsonl, csv, tsv, parquet, folders of them, data sets of the hub, and lists from
Python."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError, Problem, nearest
from .bad_rows import BadRow
from .conversation import Row
from .encodings import read_text
from .json_rows import json_rows, jsonl_rows
from .rows import Rows

if TYPE_CHECKING:
    from .settings import SourceSettings

PYTHON_SOURCE = "<python>"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
DELIMITERS = ",;\t|"


def read_source(source: SourceSettings) -> Rows:
    """Read all rows of a source; raises DataError where it is missing, empty or cannot be read."""
    if source.rows is not None:
        rows = Rows([Row(dict(fields), PYTHON_SOURCE, n) for n, fields in enumerate(source.rows, start=1)])
        name = "the list of rows"
    else:
        name = str(source.path)
        path = Path(name).expanduser()
        if path.is_dir():
            rows = _read_folder(path)
        elif path.is_file() or not _is_hub_id(name):
            rows = _read_file(path)
        else:
            rows = _read_hub(name, source.subset, source.split)
    if not rows.read:
        raise DataError(Problem(f"{name} holds no rows", "0 rows", "at least one row"))
    return rows


def _is_hub_id(name: str) -> bool:
    return (
        bool(HUB_ID.fullmatch(name))
        and Path(name).suffix.lower() not in READERS
        and not Path(name).parent.is_dir()
    )


def _read_folder(folder: Path) -> Rows:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in READERS and p.is_file())
    if not files:
        raise DataError(Problem("no data file lies in this folder", str(folder), f"a file {_extensions()}"))
    rows = Rows()
    for file in files:
        rows.extend(_read_file(file))
    rows.notes.append(f"{folder}: read {', '.join(p.name for p in files)}")
    return rows


def _read_file(path: Path) -> Rows:
    if not path.is_file():
        raise DataError(_missing(path))
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        remedy = "convert it to one of these; JSON lines is the simplest"
        raise DataError(
            Problem("this kind of file cannot be read", str(path), f"a file {_extensions()}", remedy)
        )
    if not path.stat().st_size:
        raise DataError(Problem(f"{path} is empty", "0 bytes", "at least one row"))
    return reader(path)


def _missing(path: Path) -> Problem:
    """Describe a file that is not there, with the name most like it in its folder."""
    folder = path.parent
    if not folder.is_dir():
        return Problem(
            "the data file is not there", str(path), "a file that exists", f"the folder {folder} is missing"
        )
    similar = nearest(path.name, [p.name for p in folder.iterdir() if p.suffix.lower() in READERS])
    expected = "a file that exists, or a data set of the hub as owner/name"
    return Problem(
        "the data file is not there", str(path), expected, " or ".join(str(folder / s) for s in similar)
    )


def _extensions() -> str:
    return "ending in " + ", ".join(READERS)


def _read_json(path: Path) -> Rows:
    return json_rows(_filled(read_text(path), path), str(path))


def _read_jsonl(path: Path) -> Rows:
    return jsonl_rows(_filled(read_text(path), path), str(path))


def _filled(text: str, path: Path) -> str:
    if not text.strip():
        raise DataError(Problem(f"{path} is empty", "only white space", "at least one row"))
    return text


def _read_csv(path: Path) -> Rows:
    text = _filled(read_text(path), path)
    header = text.partition("\n")[0]
    return _table(text, max(DELIMITERS, key=header.count), str(path))


def _read_tsv(path: Path) -> Rows:
    return _table(_filled(read_text(path), path), "\t", str(path))


def _table(text: str, delimiter: str, source: str) -> Rows:
    """Read a table with a header; rows with too few or too many cells become bad rows. Raises DataError."""
    rows = Rows()
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        header = [name.strip() for name in next(lines)]
        for cells in lines:
            line, begins = begins + 1, lines.line_num
            if not any(cells):
                continue
            if len(cells) == len(header):
                rows.rows.append(Row(dict(zip(header, cells, strict=True)), source, line))
            else:
                rows.bad.append(
                    BadRow(f"{source}:{line}", f"it has not {len(header)} cells", f"{len(cells)} cells")
                )
    except csv.Error as error:
        got = f"{source}:{lines.line_num}: {error}"
        remedy = (
            'cells with a separator, a quote or a line break stand in quotes; a quote within is doubled ("")'
        )
        raise DataError(Problem(f"{source} is not a table that can be read", got, remedy=remedy)) from error
    return rows


def _read_parquet(path: Path) -> Rows:
    import pyarrow
    from pyarrow import parquet

    try:
        fields = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(Problem(f"{path} is not a parquet file that can be read", str(error))) from error
    return _numbered(fields, str(path))


def _read_hub(name: str, subset: str | None, split: str) -> Rows:
    """Read one split of a data set of the hub; raises DataError where it cannot be had."""
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        loaded = datasets.load_dataset(name, subset, split=split)
    except (DatasetsError, OSError, ValueError) as error:
        expected = "a file that exists, or a data set of the hub that can be reached"
        remedy = (
            "check the name, data.sources.split and .subset, and the connection (HF_ENDPOINT names a mirror)"
        )
        raise DataError(
            Problem(f"the data set {name} cannot be had", str(error), expected, remedy)
        ) from error
    return _numbered(list(loaded), name)


def _numbered(fields: Sequence[Mapping[str, Any]], source: str) -> Rows:
    return Rows([Row(dict(one), source, number) for number, one in enumerate(fields, start=1)])


READERS: dict[str, Callable[[Path], Rows]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
