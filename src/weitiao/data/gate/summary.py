"""Summarises the data in numbers (rows by reason, tokens, lengths) for the terminal, the run's events and the
report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.locale import in_language
from ...core.units import readable_count, readable_share
from ..formats._choosing import grades
from ..report.reason_phrases import reason_zh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..checks._base import Finding
    from .gate import Gate

QUANTILES = (0.5, 0.9, 0.99, 1.0)
PLACES = 2
"""Number of places shown with a warning."""
SEVERITIES_ZH = {"error": "错误", "warning": "警告"}


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
    warnings: list[tuple[str, str, str]] = field(default_factory=list)
    """(severity, English, Chinese) of the checks' warnings, and of errors that the user has accepted."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the summary as lines to print."""
        formats = ", ".join(f"{count} {name}" for name, count in self.formats.items())
        lengths = ", ".join(f"{name} {length}" for name, length in self.length_tokens.items())
        trained = f"{readable_count(self.trained_tokens)} of {readable_count(self.tokens)}"
        lines = [
            f"rows       {self.read} read ({formats}), {self.kept} kept",
            f"examples   {self.train} to train on, {self.held_out} held out, {self.template} template",
            f"tokens     {trained} trained on an epoch ({readable_share(self.trained_tokens, self.tokens)})",
            f"lengths    {lengths} tokens",
        ]
        for reason, count in self.dropped.items():
            lines.append(f"left out   {count}: {reason} ({', '.join(self.dropped_places[reason])})")
        if self.cut:
            how = f"{self.turns_left_out} early turns left out, {self.answers_shortened} answers shortened"
            lines.append(f"cut        {self.cut} to fit data.max_length ({how})")
        if self.duplicates:
            rows = "row is" if self.duplicates == 1 else "rows are"
            lines.append(f"equal      {self.duplicates} {rows} equal to another row")
        if self.replay:
            lines.append(f"replay     {self.replay}")
        lines += [f"note       {note}" for note in self.notes]
        return lines + [f"{severity:<11}{en}" for severity, en, _ in self.warnings]

    def lines_zh(self) -> list[str]:
        """Return the summary as lines in Chinese; notes are not translated."""
        formats = "、".join(f"{name} {count} 条" for name, count in self.formats.items())
        lengths = "，".join(f"{name} {length}" for name, length in self.length_tokens.items())
        trained = f"{readable_count(self.tokens)} 中训练 {readable_count(self.trained_tokens)}"
        lines = [
            f"数据：读入 {self.read} 条（{formats}），保留 {self.kept} 条",
            f"样本：训练 {self.train} 条，留出 {self.held_out} 条，模板 {self.template}",
            f"词元：每轮 {trained}（{readable_share(self.trained_tokens, self.tokens)}）",
            f"长度（词元）：{lengths}",
        ]
        for reason, count in self.dropped.items():
            lines.append(f"未用：{count} 条，{reason_zh(reason)}（{'、'.join(self.dropped_places[reason])}）")
        if self.cut:
            how = f"略去前面的 {self.turns_left_out} 轮，缩短 {self.answers_shortened} 个回答"
            lines.append(f"截短：{self.cut} 条，以适应 data.max_length（{how}）")
        if self.duplicates:
            lines.append(f"重复：{self.duplicates} 条与其他数据相同")
        if self.replay:
            lines.append(f"回放：{in_language(self.replay, 'zh')}")
        lines += [f"说明：{note}" for note in self.notes]
        return lines + [f"{SEVERITIES_ZH[severity]}：{zh}" for severity, _, zh in self.warnings]


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


def _grading(gate: Gate) -> list[tuple[str, str, str]]:
    """Return one warning per source for unused columns that grade or select rows."""
    lines = _unused(gate, grades)
    return [("warning", line, line.replace("not used", "未使用")) for line in lines]


def _warnings(gate: Gate) -> list[tuple[str, str, str]]:
    """Return the checks' warnings and accepted errors, without those that the summary's own lines already report."""
    told = [one for one in gate.findings if one.severity != "note" and not one.in_summary]
    return [
        (
            finding.severity,
            f"{finding.what} ({_rows(finding)}): {finding.fix or 'see weitiao check'}",
            f"{finding.what_zh}（{finding.count} 条：{'、'.join(finding.places[:PLACES])}）："
            f"{finding.fix_zh or '见 weitiao check'}",
        )
        for finding in told
    ]


def _rows(finding: Finding) -> str:
    rows = f"{finding.count} row{'' if finding.count == 1 else 's'}"
    return ": ".join(filter(None, (rows, ", ".join(finding.places[:PLACES]))))


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
