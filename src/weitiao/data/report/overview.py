"""Computes the numbers of the gate's report, for both the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks._base import SHOWN_PLACES, Finding, Severity
from ..checks._kinds import GRAVEST_FIRST, LISTED_ROWS
from ..formats._choosing import grades
from ..forms import kind_of_form
from ..gate.gate import Gate, Verdict, kept_rows
from ..gate.summary import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH_BINS, SHARE_BINS = 12, 10
FAR = 1.6
"""If `max_length` exceeds the longest sequence times this, it is given next to the chart, not drawn in it."""

UNUSED_FIX = "if one matters, name what it is: data.columns.OURS=YOURS"
GRADED_FIX = (
    "remove the rows you do not want first; data.columns.weight=NAME makes a number the weight of its row"
)


@dataclass(frozen=True)
class Bin:
    """One bar of a histogram."""

    start: float
    end: float
    count: int


@dataclass(frozen=True)
class Overview:
    """The gate in numbers."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    """Sorted by severity, then by number of rows."""
    read: int
    kept: int
    trained_on: int
    held_out: int
    left_out: int
    unusable: int
    cut: int
    examples: int
    tokens: int
    trained_tokens: int
    max_length: int
    longest: int
    lengths: tuple[Bin, ...]
    """Sequences by length in tokens, including those that are too long to be used."""
    shares: tuple[Bin, ...]
    """Sequences by share of trained tokens, 0 to 1."""
    folder: str
    """The folder that all sources' paths begin with, with its separator; it is omitted where places are shown."""

    @property
    def trained_share(self) -> float:
        """The share of trained tokens, 0 to 1."""
        return self.trained_tokens / max(1, self.tokens)

    def short(self, text: str) -> str:
        """Return a place, or a text with places, without the sources' common folder."""
        return text.replace(self.folder, "") if self.folder else text

    def count_of(self, severity: str) -> int:
        """Return how many findings have a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def overview(gate: Gate, trained: Mapping[str, Collection[str]] | None = None) -> Overview:
    """Return a gate's overview; `trained` maps the name of the chosen objective to the forms that it trains."""
    lengths_S, trained_S = gate.store.lengths_S, gate.store.trained_S
    trained_forms = {form for forms in (trained or {}).values() for form in forms}
    kept_R = kept_rows(gate.store, gate.template is not None)
    kept = int(kept_R.sum())
    met = np.concatenate((lengths_S, np.array(gate.tally.left_out_tokens, np.int64)))
    longest = int(met.max(initial=0))
    limit = gate.settings.max_length
    reach = limit if limit <= FAR * longest else longest
    tally = gate.tally
    others = [
        finding for name, forms in (trained or {}).items() for finding in untrained_rows(gate, name, forms)
    ]
    others += nothing_left(gate, kept)
    findings = sorted([*gate.findings, *unusable_rows(gate), *others, *unused_columns(gate)], key=_gravest)
    return Overview(
        verdict="error" if gate.problems else _verdict(findings),
        findings=tuple(findings),
        read=tally.read,
        kept=kept,
        trained_on=_trained_on(gate, kept_R & ~gate.held_out, trained_forms if trained else {*tally.forms}),
        held_out=int(gate.held_out.sum()),
        left_out=sum(len(hits["numbers"]) for hits in tally.dropped.values()),
        unusable=len(tally.bad),
        cut=tally.cut,
        examples=len(gate.store.lengths_E),
        tokens=int(lengths_S.sum()),
        trained_tokens=int(trained_S.sum()),
        max_length=limit,
        longest=longest,
        lengths=_bins(met, LENGTH_BINS, max(reach, 1)),
        shares=_bins(trained_S / np.maximum(lengths_S, 1), SHARE_BINS, 1.0),
        folder=_shared_folder(gate.store.sources),
    )


def _trained_on(gate: Gate, left_R: NDArray[np.bool_], forms: Collection[str]) -> int:
    """Return how many of the rows that are left are of a form that is trained."""
    met = {form for form, count in gate.tally.forms.items() if count}
    if met <= {*forms}:
        return int(left_R.sum())
    if not met & {*forms}:
        return 0
    # Only data of several forms, which is refused, gets here: the forms are read from the disk.
    left = (gate.store.form(int(row)) for row in np.flatnonzero(left_R))
    return sum(form is not None and kind_of_form(form) in forms for form in left)


def unusable_rows(gate: Gate) -> list[Finding]:
    """Return a finding for each reason why rows cannot be used; with `skip_bad_rows` they are warnings."""
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for bad in gate.tally.bad:
        by_reason.setdefault(bad["reason"], []).append(bad)
    skipped = gate.settings.skip_bad_rows
    return [
        Finding(
            check="reading",
            severity="warning" if skipped else "error",
            what=f"rows cannot be used: {reason}",
            count=len(rows),
            share=len(rows) / max(1, gate.tally.read),
            places=tuple(_place(bad) for bad in rows[:SHOWN_PLACES]),
            rows=tuple(bad["number"] for bad in rows[:LISTED_ROWS]),
            fix="correct the rows, or data.skip_bad_rows=true leaves them out and counts them",
        )
        for reason, rows in by_reason.items()
    ]


def untrained_rows(gate: Gate, objective: str, forms: Collection[str]) -> list[Finding]:
    """Return a finding for each form of rows that an objective does not train."""
    return [
        Finding(
            check="objective",
            severity="error",
            what=f"rows are of the form {form!r}, which the objective {objective} does not train",
            count=count,
            share=count / max(1, gate.tally.read),
            fix="use rows of a form that it trains; training refuses these",
        )
        for form, count in gate.tally.forms.items()
        if form not in forms
    ]


def nothing_left(gate: Gate, kept: int) -> list[Finding]:
    """Return a finding if no row is left to train on, unless all rows are unusable, which is reported already."""
    left_out = gate.tally.read - len(gate.tally.bad)
    if kept or not left_out:
        return []
    fix = "see why the rows are left out; training refuses data of which no row is left"
    return [Finding("reading", "error", "no row is left to train on", left_out, 1.0, fix=fix)]


def unused_columns(gate: Gate) -> list[Finding]:
    """Return a note with all unused columns and keys of turns, by source, and a warning with unused columns that grade
    or select rows; nothing if all are used.
    """
    found = []
    if graded := _unused(gate, lambda name: "[]." not in name and grades(name)):
        what = f"columns that grade or choose rows are not used, every row counts alike: {_names(graded)}"
        found.append(_columns("warning", what, graded, GRADED_FIX))
    if unused := _unused(gate, lambda name: "[]." in name or not grades(name)):
        what = f"columns and keys of turns that are not used: {_names(unused)}"
        found.append(_columns("note", what, unused, UNUSED_FIX))
    return found


def _unused(gate: Gate, is_meant: Callable[[str], bool]) -> dict[str, dict[str, int]]:
    """Return by source the unused columns for which `is_meant` is true, with their numbers of rows."""
    found = {
        source: {name: count for name, count in counts.items() if is_meant(name)}
        for source, counts in gate.tally.unused.items()
    }
    return {source: counts for source, counts in found.items() if counts}


def _names(found: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(dict.fromkeys(name for counts in found.values() for name in counts))


def _columns(severity: Severity, what: str, found: Mapping[str, Mapping[str, int]], fix: str) -> Finding:
    places = tuple(f"{source}: {counted(counts)}" for source, counts in found.items())
    return Finding(check="columns", severity=severity, what=what, places=places, fix=fix)


def _place(bad: dict[str, Any]) -> str:
    return ": ".join(filter(None, (bad["place"], bad["detail"])))


def _verdict(findings: Sequence[Finding]) -> Verdict:
    found = {finding.severity for finding in findings}
    return "error" if "error" in found else "warning" if "warning" in found else "ok"


def _gravest(finding: Finding) -> tuple[int, int]:
    return GRAVEST_FIRST.index(finding.severity), -finding.count


def _shared_folder(sources: Sequence[str]) -> str:
    """Return the common prefix of paths up to the last separator; "" if that is only the root."""
    # The common prefix of the first and the last path in sorted order is that of all paths.
    ends = zip(min(sources, default=""), max(sources, default=""), strict=False)
    equal = takewhile(lambda pair: pair[0] == pair[1], ends)
    shared = "".join(character for character, _ in equal)
    folder = shared[: max(shared.rfind("/"), shared.rfind("\\")) + 1]
    return folder if len(folder) > 1 else ""


def _bins(values: NDArray[Any], count: int, reach: float) -> tuple[Bin, ...]:
    """Return a histogram of the values between 0 and `reach`."""
    counts, edges = np.histogram(values, bins=count, range=(0, reach))
    spans = pairwise(edges.tolist())
    return tuple(Bin(a, b, int(n)) for (a, b), n in zip(spans, counts, strict=True)) if counts.any() else ()
