"""The base class of most checks: counts rows with several kinds of problems, names, and large sets of values."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar

from ._base import Check, Finding, GateContext, GateOutcome, Hits, RowFacts, Severity
from ._sketch import hash_of

LISTED_ROWS = 1000
REMEMBERED = 2048
"""Number of texts whose results are cached: data often repeats them."""
GRAVEST_FIRST: tuple[Severity, ...] = ("error", "warning", "note")
NAMES_KEPT = 1000
EXCERPT = 80


@dataclass(frozen=True)
class Kind:
    """One kind of problem, in words."""

    severity: Severity
    what: str
    """The finding in one sentence; `{detail}` is replaced by what it says of this data."""
    fix: str = ""
    least_share: float = 0.0
    """It is reported only above this share of rows."""
    in_summary: bool = False
    """Whether the data summary counts these rows in a line of its own."""

    def finding(self, check: str, hits: Hits, of: int, detail: str = "") -> Finding:
        """Return the finding for the rows in `hits`, out of `of` rows."""
        return Finding(
            check=check,
            severity=self.severity,
            what=self.what.replace("{detail}", detail),
            count=len(hits),
            share=len(hits) / max(1, of),
            places=tuple(hits.details),
            rows=tuple(islice(hits.numbers, LISTED_ROWS)),
            fix=self.fix,
            in_summary=self.in_summary,
        )


@lru_cache(maxsize=REMEMBERED)
def hash_of_text(text: str) -> int:
    """Return a 64-bit hash of a text."""
    return hash_of(text.encode("utf-8", "surrogatepass"))


@dataclass
class DistinctValues:
    """Counts values that may be many: 8 bytes each; keeps the text of the first `NAMES_KEPT` distinct ones."""

    hashes: array[int] = field(default_factory=lambda: array("Q"))
    names: dict[int, str] = field(default_factory=dict)

    def add(self, value: str, shown: str = "") -> None:
        """Count a value; `shown` is the text kept of it, by default its excerpt."""
        key = hash_of_text(value)
        self.hashes.append(key)
        if len(self.names) < NAMES_KEPT:
            self.names.setdefault(key, shown or excerpt(value))

    def extend(self, other: DistinctValues) -> None:
        """Add the state of a later chunk."""
        self.hashes.extend(other.hashes)
        # Each chunk keeps its first names, so the first names of the whole data do not depend on the chunks.
        self.names = dict(islice({**self.names, **other.names}.items(), NAMES_KEPT))

    def counted(self) -> list[tuple[int, str, int]]:
        """Return (hash, text, count) of each distinct value, the most frequent first; text may be shortened or ""."""
        import numpy as np

        unique, first, counts = np.unique(
            np.frombuffer(self.hashes, dtype=np.uint64), return_index=True, return_counts=True
        )
        order = np.lexsort((first, -counts))
        return [(int(unique[k]), self.names.get(int(unique[k]), ""), int(counts[k])) for k in order]


CONTROL = re.compile(r"<[|｜/]?[^<>\s]{1,60}>|\[/?[A-Za-z_]{1,30}\]|<</?SYS>>|\{\{[^{}\n]{1,60}\}\}")
"""A control token, a tag or a placeholder: an excerpt never cuts it in two."""


def excerpt(text: str, characters: int = EXCERPT) -> str:
    """Return the beginning of a text, on one line; … marks where it was cut, between words if it has spaces."""
    begun = _shown(text[: 2 * characters])
    if len(begun) > characters:
        return begun[: _cut(begun, characters - 1)] + "…"
    return begun + "…" * bool(text[2 * characters :].strip())


def both_ends(text: str, characters: int = EXCERPT) -> str:
    """Return a text on one line, a long one as its beginning and its end: names may begin alike and end differently."""
    line = _shown(text)
    if len(line) <= characters:
        return line
    half = characters // 2
    last = line[_whole(line, len(line) - half, len(line))[0] :]
    # The end begins with a word, unless that would drop more than half of it.
    words = last.partition(" ")[2]
    return f"{line[: _cut(line, half - 1)]}…{words if 2 * len(words) > half else last}"


def _cut(line: str, most: int) -> int:
    """Return where to cut a line: between words if a space is near, never within a control token."""
    end = _whole(line, 0, most)[1]
    if end > most or line[most : most + 1].isspace():
        return end
    space = line.rfind(" ", most // 2, most)
    return _whole(line, 0, space)[1] if space > 0 else end


def around(text: str, start: int, end: int, characters: int = 20) -> str:
    """Return text[start:end] with the characters around it, on one line."""
    first, last = _whole(text, max(0, start - characters), end + characters)
    return f"…{_shown(text[first:last])}…"


def _whole(text: str, start: int, end: int) -> tuple[int, int]:
    """Move `start` and `end` outwards if they would cut a control token in two."""
    reach = 2 * EXCERPT
    near = CONTROL.finditer(text, max(0, start - reach), min(len(text), end + reach))
    for span in (found.span() for found in near):
        if span[0] < start < span[1]:
            start = span[0]
        if span[0] < end < span[1]:
            end = span[1]
    return start, end


def _shown(text: str) -> str:
    """Put a text on one line, with unprintable characters and lone surrogates as escapes."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def most_first(counts: Mapping[str, int], most: int = 50) -> dict[str, int]:
    """Return the `most` highest counts by name, highest first, ties in order of name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])


class KindsCheck(Check):
    """A check whose state is hits by kind, counts by name, and values by name."""

    kinds: ClassVar[Mapping[str, Kind]] = {}
    """The kinds of findings, the most severe first."""

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self.hits: dict[str, Hits] = {}
        self.counts: Counter[str] = Counter()
        self.values: dict[str, DistinctValues] = {}

    def hit(self, kind: str, row: RowFacts, detail: str = "") -> None:
        """Count a row with a problem, once per kind."""
        hits = self.hits.setdefault(kind, Hits())
        if not hits.numbers or hits.numbers[-1] != row.number:
            hits.add(row, detail)

    def value(self, name: str, value: str, shown: str = "") -> None:
        """Count a value under a name; `shown` as in `DistinctValues.add`."""
        self.values.setdefault(name, DistinctValues()).add(value, shown)

    def state(self) -> Any:  # noqa: ANN401
        """Return hits, counts and values."""
        return self.hits, self.counts, self.values

    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add the state of a later chunk."""
        hits, counts, values = state
        for kind, own in hits.items():
            self.hits.setdefault(kind, Hits()).extend(own)
        self.counts.update(counts)
        for name, seen in values.items():
            self.values.setdefault(name, DistinctValues()).extend(seen)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return what was found."""
        return self.found(self.kinds, self.rows_looked_at(outcome))

    def rows_looked_at(self, outcome: GateOutcome) -> int:
        """Return the number of rows that shares refer to."""
        return outcome.rows

    def found(self, kinds: Iterable[str], of: int) -> list[Finding]:
        """Return the findings of some kinds, if they are frequent enough (`Kind.least_share`)."""
        return gravest_first(
            self.kinds[kind].finding(self.name, self.hits[kind], of)
            for kind in kinds
            if kind in self.hits and len(self.hits[kind]) > self.kinds[kind].least_share * of
        )


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by severity (a stable sort)."""
    return sorted(findings, key=lambda finding: GRAVEST_FIRST.index(finding.severity))
