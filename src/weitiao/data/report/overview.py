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
from .phrases import WORDS, say
from .reason_phrases import reason_zh

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH_BINS, SHARE_BINS = 12, 10
FAR = 1.6
"""If `max_length` exceeds the longest sequence times this, it is given next to the chart, not drawn in it."""


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
    (what, what_zh), (fix, fix_zh) = WORDS["unusable_rows"], WORDS["unusable_fix"]
    return [
        Finding(
            check="reading",
            severity="warning" if skipped else "error",
            what=what + reason,
            what_zh=what_zh + reason_zh(reason),
            count=len(rows),
            share=len(rows) / max(1, gate.tally.read),
            places=tuple(_place(bad) for bad in rows[:SHOWN_PLACES]),
            rows=tuple(bad["number"] for bad in rows[:LISTED_ROWS]),
            fix=fix,
            fix_zh=fix_zh,
        )
        for reason, rows in by_reason.items()
    ]


def untrained_rows(gate: Gate, objective: str, forms: Collection[str]) -> list[Finding]:
    """Return a finding for each form of rows that an objective does not train."""
    fix, fix_zh = WORDS["untrained_fix"]
    return [
        Finding(
            check="objective",
            severity="error",
            what=say("en", "untrained_rows", form=form, objective=objective),
            what_zh=say("zh", "untrained_rows", form=form, objective=objective),
            count=count,
            share=count / max(1, gate.tally.read),
            fix=fix,
            fix_zh=fix_zh,
        )
        for form, count in gate.tally.forms.items()
        if form not in forms
    ]


def nothing_left(gate: Gate, kept: int) -> list[Finding]:
    """Return a finding if no row is left to train on, unless all rows are unusable, which is reported already."""
    left_out = gate.tally.read - len(gate.tally.bad)
    if kept or not left_out:
        return []
    (what, what_zh), (fix, fix_zh) = WORDS["nothing_left"], WORDS["nothing_left_fix"]
    return [Finding("reading", "error", what, what_zh, left_out, 1.0, fix=fix, fix_zh=fix_zh)]


def unused_columns(gate: Gate) -> list[Finding]:
    """Return a note with all unused columns and keys of turns, by source, and a warning with unused columns that grade
    or select rows; nothing if all are used.
    """
    graded = _unused(gate, "graded", "warning", lambda name: "[]." not in name and grades(name))
    return [*graded, *_unused(gate, "unused", "note", lambda name: "[]." in name or not grades(name))]


def _unused(gate: Gate, kind: str, severity: Severity, is_meant: Callable[[str], bool]) -> list[Finding]:
    """Return a finding with the unused columns for which `is_meant` is true; [] if there are none."""
    found = {
        source: {name: count for name, count in counts.items() if is_meant(name)}
        for source, counts in gate.tally.unused.items()
    }
    names = ", ".join(dict.fromkeys(name for counts in found.values() for name in counts))
    (what, what_zh), (fix, fix_zh) = WORDS[f"{kind}_columns"], WORDS[f"{kind}_fix"]
    finding = Finding(
        check="columns",
        severity=severity,
        what=what + names,
        what_zh=what_zh + names,
        places=tuple(f"{source}: {counted(counts)}" for source, counts in found.items() if counts),
        fix=fix,
        fix_zh=fix_zh,
    )
    return [finding] if names else []


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
