"""Summarises the data in numbers (rows by reason, tokens, lengths) for the terminal, the run's events and the
report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.locale import Language, in_language
from ...core.units import readable_count, readable_share
from ...core.visible import padded
from ..formats._choosing import grades

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..checks._base import Finding
    from .gate import Gate

QUANTILES = (0.5, 0.9, 0.99, 1.0)
LABEL_COLUMNS = 11
"""Columns of a terminal that the label of a line takes."""
PLACES = 2
"""Number of places shown with a warning."""


@dataclass(frozen=True)
class Summary:
    """A summary of the data, in numbers."""

    read: int
    """Rows read."""
    kept: int
    """Rows trained on or held out."""
    train: int
    """Examples trained on."""
    held_out: int
    """Examples in the held-out set."""
    dropped: dict[str, int]
    """Rows left out, by reason."""
    dropped_places: dict[str, list[str]]
    """The first places of each reason, as file:line."""
    cut: int
    """Rows shortened to fit."""
    turns_left_out: int
    """Turns removed from the beginning of shortened rows."""
    answers_shortened: int
    """Answers that lost the middle of their reasoning, or their end."""
    duplicates: int
    """Usable rows whose content repeats an earlier row."""
    formats: dict[str, int]
    """Rows by format."""
    template: str
    """chat, instruction or text; "" without a model."""
    tokens: int
    """Tokens of one epoch, with the sources' weights."""
    trained_tokens: int
    """Trained tokens of one epoch, with the sources' weights."""
    length_tokens: dict[str, int]
    """Quantiles of the sequences' lengths in tokens: p50, p90, p99, max."""
    notes: list[str]
    """Other things that a person should know."""
    replay: str | None = None
    """The general rows that are mixed into training, and their cost."""
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """(severity, text) of the checks' warnings, and of errors that the user has accepted."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def lines(self, language: Language = "en") -> list[str]:
        """Return the summary as lines to print in a language, each with a label of `LABEL_COLUMNS`."""
        said = [(in_language(label, language), in_language(text, language)) for label, text in self._parts()]
        return [padded(label, LABEL_COLUMNS) + text for label, text in said]

    def _parts(self) -> Iterator[tuple[str, str]]:
        """Yield the label and the text of each line, in English."""
        formats = ", ".join(f"{count} {name}" for name, count in self.formats.items())
        lengths = ", ".join(f"{name} {length}" for name, length in self.length_tokens.items())
        trained, tokens = readable_count(self.trained_tokens), readable_count(self.tokens)
        share = readable_share(self.trained_tokens, self.tokens)
        yield "rows", f"{self.read} read ({formats}), {self.kept} kept"
        yield "examples", f"{self.train} to train on, {self.held_out} held out, {self.template} template"
        yield "tokens", f"{trained} of {tokens} trained on an epoch ({share})"
        yield "lengths", f"{lengths} tokens a sequence"
        for reason, count in self.dropped.items():
            what = f"{reason} ({', '.join(self.dropped_places[reason])})"
            yield "left out", f"{count}: {what}"
        if self.cut:
            how = f"{self.turns_left_out} early turns left out, {self.answers_shortened} answers shortened"
            yield "cut", f"{self.cut} to fit data.max_length ({how})"
        if self.duplicates:
            equal = f"{self.duplicates} rows are equal to another row"
            yield "equal", "1 row is equal to another row" if self.duplicates == 1 else equal
        if self.replay:
            yield "replay", self.replay
        yield from (("note", note) for note in self.notes)
        yield from self.warnings


def summary_of(gate: Gate, train_E: NDArray[np.int64], held_out_E: NDArray[np.int64]) -> Summary:
    """Return the summary of checked data; the arrays are indices of examples in the store."""
    store, tally = gate.store, gate.tally
    draws = store.arrays["row_draws"][store.arrays["example_rows"][train_E]]
    kept = len(np.unique(store.arrays["example_rows"]))
    return Summary(
        read=tally.read,
        kept=kept,
        train=len(train_E),
        held_out=len(held_out_E),
        dropped=tally.dropped_counts(),
        dropped_places=tally.dropped_places(),
        cut=tally.cut,
        turns_left_out=tally.turns_left_out,
        answers_shortened=tally.answers_shortened,
        duplicates=_duplicates(gate),
        formats=dict(tally.formats),
        template=gate.template.kind if gate.template else "",
        tokens=round(float((store.lengths_E[train_E] * draws).sum())),
        trained_tokens=round(float((store.trained_E[train_E] * draws).sum())),
        length_tokens=length_quantiles(store.lengths_S),
        notes=[*tally.notes, *_unused(gate, lambda name: not grades(name))],
        warnings=[*_grading(gate), *_warnings(gate)],
    )


def _duplicates(gate: Gate) -> int:
    """Return the number of usable rows that repeat an earlier one, by their content keys."""
    usable = np.diff(gate.store.arrays["form_starts"]) > 0
    keys = gate.store.arrays["row_keys"][usable]
    return len(keys) - len(np.unique(keys, axis=0)) if len(keys) else 0


def _unused(gate: Gate, is_meant: Callable[[str], bool]) -> list[str]:
    """Return one line per source with the unused columns for which `is_meant` is true."""
    found = {
        source: {name: count for name, count in counts.items() if is_meant(name)}
        for source, counts in gate.tally.unused.items()
    }
    return [f"{source}: not used: {counted(counts)}" for source, counts in found.items() if counts]


def _grading(gate: Gate) -> list[tuple[str, str]]:
    """Return one warning per source for unused columns that grade or select rows."""
    return [("warning", line) for line in _unused(gate, grades)]


def _warnings(gate: Gate) -> list[tuple[str, str]]:
    """Return the checks' warnings and accepted errors, without those that the summary's own lines already report."""
    told = [one for one in gate.findings if one.severity != "note" and not one.in_summary]
    return [(finding.severity, _warning(finding)) for finding in told]


def _warning(finding: Finding) -> str:
    count = "1 row" if finding.count == 1 else f"{finding.count} rows"
    where = f"{count}: {', '.join(finding.places[:PLACES])}" if finding.places else count
    fix = finding.fix or "see `weitiao check`"
    return f"{finding.what} ({where}): {fix}"


def counted(counts: Mapping[str, int]) -> str:
    """Return names with their numbers of rows, on one line."""
    return ", ".join(f"{name} ({readable_count(count)})" for name, count in counts.items())


def length_quantiles(lengths_S: NDArray[np.int64]) -> dict[str, int]:
    """Return quantiles of the lengths in tokens (nearest rank)."""
    if not len(lengths_S):
        return {}
    ordered = np.sort(lengths_S)
    last = len(ordered) - 1
    return {("max" if q == 1 else f"p{round(100 * q)}"): int(ordered[round(q * last)]) for q in QUANTILES}
