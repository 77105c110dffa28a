"""Tables as text, with a header: .csv with commas, semicolons, tabs or bars, .tsv with tabs."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, ClassVar, TextIO

from ....core.errors import DataError, Problem
from ...bad_rows import BadRow, Found
from ...conversation import Row
from ..text_files import LONGEST_TEXT
from ._base import DataFile, Reader, bare_suffix

if TYPE_CHECKING:
    import _csv

DELIMITERS = ",;\t|"
MOST_COLUMNS, MOST_CELLS = 10_000, 1_000_000
LARGEST_CELL = 1 << 24
"""Characters; the default of Python's csv module, 131,072, is too small for a long document."""
_QUOTED = re.compile(r'"[^"]*"')
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
QUOTES = (
    'a cell with a separator, a quote or a line break is put in quotes, and a quote inside it is doubled ("")'
)


class Csv(Reader):
    """Reads every cell as text; rows with too few or too many cells become bad rows."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    example: ClassVar[str] = 'question,answer\nWhat boils at 100 °C?,"Water, at sea level."\n'

    def read(self, file: DataFile) -> Found:
        """Yield the rows of a table; raises DataError if its header cannot be used, or a line is too long."""
        csv.field_size_limit(LARGEST_CELL)
        with self.text(file, newline="") as text:
            yield from _table(_lines(text, file), file)


def _lines(text: TextIO, file: DataFile) -> Iterator[str]:
    """Yield the lines of a table; raises DataError for a line that would fill the memory."""
    for number, line in enumerate(iter(partial(text.readline, LONGEST_TEXT), ""), start=1):
        if len(line) == LONGEST_TEXT or (
            len(line) > LARGEST_CELL and max(map(line.count, DELIMITERS)) > MOST_CELLS
        ):
            got = f"{file.name}:{number}: {line[:40]!r}..."
            raise DataError(Problem(f"{file.name} has a line that is too long for a table", got))
        yield line


def _table(text: Iterator[str], file: DataFile) -> Found:
    first, before = next(text, ""), 0
    while first and not first.strip():
        first, before = next(text, ""), before + 1
    named = _SEPARATOR_LINE.fullmatch(first)
    if named:
        first, before = next(text, ""), before + 1
    delimiter = named[1] if named else _delimiter(first, bare_suffix(file.path))
    _refuse_width(first, delimiter, file, before + 1)
    lines = csv.reader(chain([first], text), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(lines)]
    except csv.Error as error:
        problem = Problem(
            f"{file.name} cannot be read as a table",
            f"{file.name}:{before + 1}: {error}",
            "a header",
            QUOTES,
        )
        raise DataError(problem) from error
    yield from _rows(lines, require_names(header, file, before + 1), file.name, before)


def _refuse_width(first: str, delimiter: str, file: DataFile, line: int) -> None:
    """Raise DataError for a header of more than `MOST_COLUMNS` columns."""
    columns = first.count(delimiter) + 1
    if columns > MOST_COLUMNS:
        got = f"{file.name}:{line}: {columns:,} columns"
        raise DataError(
            Problem(f"{file.name} cannot be read as a table", got, f"at most {MOST_COLUMNS:,} columns")
        )


def _delimiter(header: str, suffix: str) -> str:
    """Return the delimiter: a tab in .tsv files, otherwise the candidate most frequent in the header outside quotes."""
    return "\t" if suffix == ".tsv" else max(DELIMITERS, key=_QUOTED.sub("", header).count)


def require_names(header: Sequence[str], file: DataFile, line: int) -> list[str]:
    """Return the header's names, with "" for unnamed columns, which are noted; raises DataError for duplicate names."""
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(
            Problem(
                f"{file.name} has two columns of the same name",
                f"{file.name}:{line}: {', '.join(map(repr, twice))}",
                "a different name for each column",
                "rename one of them in the header",
            )
        )
    unnamed = [str(number) for number, name in enumerate(header, start=1) if not name]
    if unnamed:
        file.notes.append(f"{file.name}: column {', '.join(unnamed)} has no name and was left out")
    return list(header)


def _rows(lines: _csv.Reader, header: list[str], source: str, before: int) -> Found:
    """Yield the rows after the header; `before` is the number of lines above the header."""
    width, unnamed = len(header), "" in header
    while True:
        line = lines.line_num + before + 1
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(f"{source}:{line}", "its quotes are not valid in a table", f"{error}; {QUOTES}")
            continue
        if not any(cells):
            continue
        if len(cells) != width:
            yield BadRow(
                f"{source}:{line}",
                f"it has more or fewer than {width} cells",
                f"{len(cells)} cells",
            )
        elif "\0" in "".join(cells):
            yield BadRow(f"{source}:{line}", "it holds a NUL byte", "the file may be damaged")
        else:
            fields = dict(zip(header, cells, strict=True))
            if unnamed:
                del fields[""]
            yield Row(fields, source, line)
