"""What most checks are made of: rows with faults of some kinds, counts by name, and values that may be many."""

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
"""What is read in so many texts is remembered: data often repeats them."""
GRAVEST_FIRST: tuple[Severity, ...] = ("error", "warning", "note")
NAMES_KEPT = 1000
EXCERPT = 80


@dataclass(frozen=True)
class Kind:
    """One kind of fault, in words."""

    severity: Severity
    what: str
    what_zh: str
    fix: str = ""
    fix_zh: str = ""
    least_share: float = 0.0
    """The share of rows from which it is worth a word."""
    in_summary: bool = False
    """Whether the data's summary counts these rows in a line of its own."""

    def finding(self, check: str, hits: Hits, of: int, detail: str = "", detail_zh: str = "") -> Finding:
        """Say it of some rows, `of` so many."""
        return Finding(
            check=check,
            severity=self.severity,
            what=self.what + detail,
            what_zh=self.what_zh + (detail_zh or detail),
            count=len(hits),
            share=len(hits) / max(1, of),
            places=tuple(hits.details),
            rows=tuple(islice(hits.numbers, LISTED_ROWS)),
            fix=self.fix,
            fix_zh=self.fix_zh,
            in_summary=self.in_summary,
        )


@lru_cache(maxsize=REMEMBERED)
def hash_of_text(text: str) -> int:
    """Return 64 bits that tell texts apart."""
    return hash_of(text.encode("utf-8", "surrogatepass"))


@dataclass
class DistinctValues:
    """Values that may be many: 8 bytes each, with the words of the first different ones."""

    hashes: array[int] = field(default_factory=lambda: array("Q"))
    names: dict[int, str] = field(default_factory=dict)

    def add(self, value: str) -> None:
        """Count a value."""
        key = hash_of_text(value)
        self.hashes.append(key)
        if len(self.names) < NAMES_KEPT:
            self.names.setdefault(key, excerpt(value))

    def extend(self, other: DistinctValues) -> None:
        """Add a later chunk's."""
        self.hashes.extend(other.hashes)
        # The first names of the whole are among the first of each chunk, so the cut does not depend on chunks.
        self.names = dict(islice({**self.names, **other.names}.items(), NAMES_KEPT))

    def counted(self) -> list[tuple[int, str, int]]:
        """Return (hash, words, count) of each different value, the most frequent first; words may be cut or ''."""
        import numpy as np

        unique, first, counts = np.unique(
            np.frombuffer(self.hashes, dtype=np.uint64), return_index=True, return_counts=True
        )
        order = np.lexsort((first, -counts))
        return [(int(unique[k]), self.names.get(int(unique[k]), ""), int(counts[k])) for k in order]


CONTROL = re.compile(r"<[|｜/]?[^<>\s]{1,60}>|\[/?[A-Za-z_]{1,30}\]|<</?SYS>>|\{\{[^{}\n]{1,60}\}\}")
"""What reads as one sign (a control token, a tag, a placeholder) and is never shown in part."""


def excerpt(text: str, characters: int = EXCERPT) -> str:
    """Return the beginning of a text on one line."""
    begun = _shown(text[: 2 * characters])
    return begun if len(begun) <= characters else begun[: _whole(begun, 0, characters - 1)[1]] + "…"


def around(text: str, start: int, end: int, characters: int = 20) -> str:
    """Return a stretch of a text with what stands about it, on one line."""
    first, last = _whole(text, max(0, start - characters), end + characters)
    return f"…{_shown(text[first:last])}…"


def _whole(text: str, start: int, end: int) -> tuple[int, int]:
    """Move the ends of a stretch outwards where they cut a control token in two."""
    reach = 2 * EXCERPT
    near = CONTROL.finditer(text, max(0, start - reach), min(len(text), end + reach))
    for span in (found.span() for found in near):
        if span[0] < start < span[1]:
            start = span[0]
        if span[0] < end < span[1]:
            end = span[1]
    return start, end


def _shown(text: str) -> str:
    """Put a text on one line, with signs that cannot be shown, or written in UTF-8, as escapes."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def most_first(counts: Mapping[str, int], most: int = 50) -> dict[str, int]:
    """Return counts by name, the highest first, equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])


class KindsCheck(Check):
    """A check whose state is hits by kind, counts by name, and values."""

    kinds: ClassVar[Mapping[str, Kind]] = {}
    """What it may find, the gravest first."""

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self.hits: dict[str, Hits] = {}
        self.counts: Counter[str] = Counter()
        self.values: dict[str, DistinctValues] = {}

    def hit(self, kind: str, row: RowFacts, detail: str = "") -> None:
        """Count a row with a fault; a row counts once a kind."""
        hits = self.hits.setdefault(kind, Hits())
        if not hits.numbers or hits.numbers[-1] != row.number:
            hits.add(row, detail)

    def value(self, name: str, value: str) -> None:
        """Count a value."""
        self.values.setdefault(name, DistinctValues()).add(value)

    def state(self) -> Any:  # noqa: ANN401
        """Return hits, counts and values."""
        return self.hits, self.counts, self.values

    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add a later chunk's."""
        hits, counts, values = state
        for kind, own in hits.items():
            self.hits.setdefault(kind, Hits()).extend(own)
        self.counts.update(counts)
        for name, seen in values.items():
            self.values.setdefault(name, DistinctValues()).extend(seen)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Say what was found."""
        return self.found(self.kinds, self.rows_looked_at(outcome))

    def rows_looked_at(self, outcome: GateOutcome) -> int:
        """Return how many rows shares are of."""
        return outcome.rows

    def found(self, kinds: Iterable[str], of: int) -> list[Finding]:
        """Say what was found of some kinds, where it is frequent enough to be worth a word."""
        return gravest_first(
            self.kinds[kind].finding(self.name, self.hits[kind], of)
            for kind in kinds
            if kind in self.hits and len(self.hits[kind]) > self.kinds[kind].least_share * of
        )


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Order findings by severity, otherwise as they are."""
    return sorted(findings, key=lambda finding: GRAVEST_FIRST.index(finding.severity))
