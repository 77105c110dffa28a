"""What became of the data: counts by reason, tokens, lengths, for the terminal, the run's events and the
report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..core.units import readable_count, readable_share
from .bad_rows import BadRow, by_reason
from .conversation import Example

QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass
class Counts:
    """What rendering left out or shortened."""

    dropped: list[BadRow] = field(default_factory=list)
    """Rows left out, with the reason."""
    cut: int = 0
    """Rows kept after they were made shorter."""
    turns_left_out: int = 0
    """Questions and answers that such rows lost from their beginning."""
    answers_shortened: int = 0
    """Answers that lost their end (never the token that ends them)."""


@dataclass(frozen=True)
class Summary:
    """What the data is, in numbers."""

    read: int
    """Rows read."""
    kept: int
    """Rows trained on or held out."""
    train: int
    """Examples trained on."""
    held_out: int
    """Examples kept away to measure with."""
    dropped: dict[str, int]
    """Rows left out, by reason."""
    dropped_places: dict[str, list[str]]
    """The first places of each reason, as file:line."""
    cut: int
    """Rows shortened to fit."""
    turns_left_out: int
    """Turns that shortened rows lost from their beginning."""
    answers_shortened: int
    """Answers that lost their end."""
    duplicates: int
    """Rows equal to another row."""
    formats: dict[str, int]
    """Rows by format."""
    template: str
    """chat or instruction."""
    tokens: int
    """Tokens an epoch passes through, with the sources' weights."""
    trained_tokens: int
    """Tokens an epoch trains on, with the sources' weights."""
    length_tokens: dict[str, int]
    """Quantiles of the examples' lengths in tokens: p50, p90, p99, max."""
    notes: list[str]
    """What else a person should know."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return what a person reads, a line each."""
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
            lines.append(f"equal      {self.duplicates} rows are equal to another row")
        return lines + [f"note       {note}" for note in self.notes]

    def lines_zh(self) -> list[str]:
        """Return the same in Chinese; reasons and notes stay as the checks word them."""
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
            lines.append(f"未用：{count} 条，{reason}（{'、'.join(self.dropped_places[reason])}）")
        if self.cut:
            how = f"略去前面的 {self.turns_left_out} 轮，缩短 {self.answers_shortened} 个回答"
            lines.append(f"截短：{self.cut} 条，以适应 data.max_length（{how}）")
        if self.duplicates:
            lines.append(f"重复：{self.duplicates} 条与其他数据相同")
        return lines + [f"说明：{note}" for note in self.notes]


def dropped_counts(rows: Sequence[BadRow], shown: int = 3) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Return how many rows each reason left out, and the first places of each."""
    groups = by_reason(rows)
    places = {reason: [row.place for row in group[:shown]] for reason, group in groups.items()}
    return {reason: len(group) for reason, group in groups.items()}, places


def epoch_tokens(examples: Sequence[Example]) -> tuple[int, int]:
    """Return the tokens an epoch passes through and those it trains on, each example as often as it is
    drawn."""
    passed = sum(len(example.ids) * example.draws for example in examples)
    trained = sum(example.trained_tokens * example.draws for example in examples)
    return round(passed), round(trained)


def length_quantiles(examples: Sequence[Example]) -> dict[str, int]:
    """Return quantiles of the lengths in tokens (nearest rank)."""
    lengths = sorted(len(example.ids) for example in examples)
    last = len(lengths) - 1
    return (
        {("max" if q == 1 else f"p{round(100 * q)}"): lengths[round(q * last)] for q in QUANTILES}
        if lengths
        else {}
    )
