"""Everything that needs no tokenizer: files, formats and rows, checked with all problems raised at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..core.errors import DataError, Problem, nearest, raise_all
from .bad_rows import BadRow, problems_of
from .conversation import Conversation, Row
from .formats import FORMATS
from .formats._base import Format, RowError
from .rows import Rows
from .settings import DataSettings, SourceSettings
from .sources import read_source

PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass
class Checked:
    """Conversations that can be trained on as far as can be told without a tokenizer."""

    conversations: list[Conversation] = field(default_factory=list)
    held_out: list[Conversation] = field(default_factory=list)
    """What `held_out_path` gave; empty where held-out rows are taken from the sources."""
    read: int = 0
    """Rows read, bad ones included."""
    bad: list[BadRow] = field(default_factory=list)
    """Rows left out because of `skip_bad_rows`."""
    formats: dict[str, int] = field(default_factory=dict)
    """Rows by format."""
    notes: list[str] = field(default_factory=list)
    """What a person should know."""


class _Reader:
    """Reads sources one after the other and keeps every problem for the end."""

    def __init__(self, settings: DataSettings) -> None:
        self.settings = settings
        self.formats = {name: FORMATS.load(name)() for name in FORMATS.names()}
        self.problems: list[Problem] = []
        self.checked = Checked()
        self.filled: Counter[str] = Counter()
        self.unfilled: Counter[str] = Counter()
        self.columns_met: set[str] = set()

    def read(self, source: SourceSettings) -> list[Conversation]:
        """Return a source's conversations, with its weight; what is wrong with it goes to `problems`."""
        try:
            rows = read_source(source)
        except DataError as error:
            self.problems += error.problems
            return []
        self.columns_met.update(*(row.fields for row in rows.rows))
        rows.rows = [_rename(row, self.settings.columns) for row in rows.rows]
        columns = set().union(*(row.fields for row in rows.rows))
        read = rows.read
        self.checked.read += read
        self.checked.notes += rows.notes
        name = self._format_of(source, columns) if rows.rows else ""
        found = self._parse(self.formats[name], rows) if name else []
        self._settle_bad_rows(
            rows, read, self.formats[name].example if name else "an object with named columns"
        )
        if found:
            self.checked.formats[name] = self.checked.formats.get(name, 0) + len(found)
        return [replace(one, weight=source.weight) for one in found]

    def _format_of(self, source: SourceSettings, columns: set[str]) -> str:
        """Return the format's name; where the columns fit none or several, note the problem and return
        nothing."""
        if source.format != "auto":
            return source.format
        claims = [name for name, one in self.formats.items() if one.claims(columns)]
        if len(claims) == 1:
            return claims[0]
        self.problems.append(_format_problem(source, columns, claims, self.formats))
        return ""

    def _parse(self, form: Format, rows: Rows) -> list[Conversation]:
        found = []
        for row in rows.rows:
            try:
                found.append(self._fill(form.parse(row)))
            except RowError as error:
                rows.bad.append(BadRow(row.place, error.reason, error.detail))
        return found

    def _fill(self, one: Conversation) -> Conversation:
        """Replace placeholders in all turns, and count those that are filled and those that stay."""
        if not any("{{" in message.content for message in one.messages):
            return one
        values = self.settings.fill

        def value_of(found: re.Match[str]) -> str:
            name = found[1]
            (self.filled if name in values else self.unfilled)[name] += 1
            return values.get(name, found[0])

        messages = (replace(m, content=PLACEHOLDER.sub(value_of, m.content)) for m in one.messages)
        return replace(one, messages=tuple(messages))

    def _settle_bad_rows(self, rows: Rows, read: int, expected: str) -> None:
        if self.settings.skip_bad_rows:
            self.checked.bad += rows.bad
        else:
            self.problems += problems_of(rows.bad, expected, read)

    def finish(self) -> Checked:
        """Check what only the whole data can show and return it; raises DataError with every problem met."""
        self.problems += _unknown_columns(self.settings.columns, self.formats, self.columns_met)
        if not self.problems:
            self.problems += _useless_fills(self.settings.fill, self.filled, self.unfilled)
        if not self.problems and not self.checked.conversations:
            self.problems.append(
                Problem("no row of the data can be used", _reasons(self.checked), "at least one row")
            )
        raise_all(DataError, self.problems)
        self.checked.notes += [
            f"{{{{{name}}}}} stands {count} times in the text as it is; fill it with data.fill.{name}=..."
            for name, count in self.unfilled.items()
        ]
        return self.checked


def check_data(settings: DataSettings) -> Checked:
    """Read and check everything that needs no tokenizer; raises DataError with all problems of all
    sources."""
    reader = _Reader(settings)
    for source in settings.sources:
        reader.checked.conversations += reader.read(source)
    if settings.held_out_path is not None:
        reader.checked.held_out = reader.read(SourceSettings(path=settings.held_out_path))
    return reader.finish()


def _rename(row: Row, columns: Mapping[str, str]) -> Row:
    """Give a row's columns the names used here; a column that is not there stays missing."""
    if not columns:
        return row
    theirs = {their: our for our, their in columns.items()}
    # Where a column takes a name, the column that has this name already makes way for it.
    taken = {our for our, their in columns.items() if their in row.fields}
    kept = {name: value for name, value in row.fields.items() if name in theirs or name not in taken}
    return replace(row, fields={theirs.get(name, name): value for name, value in kept.items()})


def _unknown_columns(
    columns: Mapping[str, str], formats: Mapping[str, Format], met: set[str]
) -> list[Problem]:
    """Describe mappings to a column no format reads, and from one that no source has."""
    known = sorted({column for one in formats.values() for column in one.columns})
    problems = [
        Problem(
            f"no format reads a column {ours!r}",
            f"data.columns.{ours}={theirs}",
            "one of " + ", ".join(known),
            " or ".join(f"data.columns.{name}={theirs}" for name in nearest(ours, known)),
        )
        for ours, theirs in columns.items()
        if ours not in known
    ]
    return problems + [
        Problem(
            f"no source has a column {theirs!r}",
            f"data.columns.{ours}={theirs}",
            "one of " + ", ".join(sorted(met)),
            " or ".join(f"data.columns.{ours}={name}" for name in nearest(theirs, met)),
        )
        for ours, theirs in columns.items()
        if met and theirs not in met
    ]


def _format_problem(
    source: SourceSettings, columns: Iterable[str], claims: Sequence[str], formats: Mapping[str, Format]
) -> Problem:
    """Describe columns that fit no format or several, with what each format wants and what to write."""
    name = source.path or "the list of rows"
    expected = "\n".join(
        f"{n}: {', '.join(sorted(one.required))}, as in {one.example}" for n, one in formats.items()
    )
    if claims:
        reasons = "; ".join(f"{n}: {formats[n].reason()}" for n in claims)
        remedy = " or ".join(f"format: {n}" for n in claims) + ", under the source in data.sources"
        return Problem(
            f"the rows of {name} fit more than one format ({reasons})",
            ", ".join(sorted(columns)),
            expected,
            remedy,
        )
    remedy = "name your columns, such as data.columns.instruction=QUESTION data.columns.output=ANSWER"
    return Problem(f"the columns of {name} fit no format", ", ".join(sorted(columns)), expected, remedy)


def _useless_fills(
    fill: Mapping[str, str], filled: Mapping[str, int], unfilled: Mapping[str, int]
) -> list[Problem]:
    """Describe values for placeholders that stand nowhere."""
    names = sorted({*filled, *unfilled})
    return [
        Problem(
            f"{{{{{name}}}}} stands nowhere in the data",
            f"data.fill.{name}={value}",
            "one of " + ", ".join(names) if names else "no placeholder stands in this data",
            " or ".join(f"data.fill.{near}={value}" for near in nearest(name, unfilled)),
        )
        for name, value in fill.items()
        if name not in filled
    ]


def _reasons(checked: Checked) -> str:
    counts = Counter(row.reason for row in checked.bad)
    return "; ".join(f"{count} rows: {reason}" for reason, count in counts.most_common())
