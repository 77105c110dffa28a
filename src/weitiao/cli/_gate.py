"""Draws the data gate's report on a terminal, in English or Chinese; without colours, brackets mark the tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..core.errors import Problem
from ..core.locale import Language, in_language
from ..core.units import readable_count
from ..core.visible import visible
from ..data.checks._base import Finding
from ..data.gate.gate import Gate
from ..data.report.overview import Bin, Overview
from ..data.report.phrases import (
    CHECKS,
    FATES,
    NO_FINDINGS,
    NO_MODEL,
    TEMPLATES,
    VERDICTS,
    called,
    more_tokens,
    place_in,
    reason_in,
    token_counts,
)
from ..data.report.token_view import Passage, Sample, Token

SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "note": "blue"}
SIGNS = {"error": "✗", "warning": "!", "note": "·", "ok": "✓"}
BAR_COLUMNS = 40
HINT = "Every sample: --sample N, --row FILE:LINE; the whole as a page: --html FILE."
EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class TokenStyle:
    """How a token is drawn: its style, and the brackets that replace it without colours."""

    name: str
    style: str
    open: str = ""
    close: str = ""


CONTEXT = TokenStyle("context", "dim")
TRAINED = TokenStyle("trained", "green", "⟪", "⟫")
PARTLY = TokenStyle("trained with less weight", "green dim", "⟪", "⟫")
CONTROL = TokenStyle("control token", "magenta", "⟨", "⟩")
CONTROL_TRAINED = TokenStyle("control token, trained", "bold magenta underline", "⟪⟨", "⟩⟫")
CUT = TokenStyle("cut off", "red strike", "⟦", "⟧")
LOOKS = (CONTEXT, TRAINED, PARTLY, CONTROL, CONTROL_TRAINED, CUT)


def look_of(token: Token) -> TokenStyle:
    """Return the style of a token."""
    if token.cut:
        return CUT
    if token.control:
        return CONTROL_TRAINED if token.weight else CONTROL
    if not token.weight:
        return CONTEXT
    return TRAINED if token.weight >= 1 else PARTLY


class GatePrinter:
    """Draws the report of a data gate."""

    def __init__(self, console: Console, language: Language) -> None:
        self._console, self._language = console, language
        self._colon, self._comma = ("：", "，") if language == "zh" else (": ", ", ")
        self._colours = console.color_system is not None and not console.no_color

    def print(self, gate: Gate, view: Overview, samples: Sequence[Sample]) -> None:
        """Draw the whole report."""
        put = self._console.print
        put(self._verdict(gate, view))
        put()
        put(self._facts(gate, view))
        for problem in gate.problems:
            put()
            put(self._problem(problem))
        if view.findings or not gate.problems:
            put()
            put(self._findings(view) if view.findings else Text(self._say(NO_FINDINGS), style="green"))
        if view.lengths:
            put()
            put(self._lengths(view))
        for sample in samples:
            put()
            put(self._sample(sample, view.short(sample.place)))
        put()
        put(Text(self._say(HINT), style="dim"))

    def _say(self, text: str) -> str:
        return in_language(text, self._language)

    def _labelled(self, label: str, text: str) -> str:
        return f"{self._say(label)}{self._colon}{text}"

    def _verdict(self, gate: Gate, view: Overview) -> Text:
        style = SEVERITY_STYLES.get(view.verdict, "bold green")
        line = Text(f"{SIGNS[view.verdict]} {self._say(VERDICTS[view.verdict])}", style=style)
        if gate.template is None:
            line.append(f"\n{self._say(NO_MODEL)}", style="none")
        return line

    def _facts(self, gate: Gate, view: Overview) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for key, line in self._fact_lines(gate, view):
            table.add_row(self._say(key), Text(visible(line)))
        return table

    def _fact_lines(self, gate: Gate, view: Overview) -> Iterator[tuple[str, str]]:
        for found in gate.tally.detected:
            why = self._say(found["why"])
            yield "format", f"{found['format']}: {found['source']} ({why})" if why else found["format"]
            if found.get("proposals"):
                yield "note", self._labelled("try", found["proposals"])
        counts = {
            "read": view.read,
            "kept": view.kept,
            "left out": view.left_out,
            "unusable": view.unusable,
            "cut": view.cut,
        }
        yield "rows", self._counted(counts)
        yield "held out", f"{view.held_out}"
        if gate.template is not None:
            yield "template", self._say(TEMPLATES[gate.template.kind])
            trained = f"{self._say('trained')} {view.trained_share:.1%}"
            yield "tokens", f"{readable_count(view.tokens)}{self._comma}{trained}"
        for note in gate.tally.notes:
            yield "note", self._say(note)

    def _counted(self, counts: dict[str, int]) -> str:
        shown = {key: count for key, count in counts.items() if count or key in ("read", "kept")}
        return self._comma.join(f"{count:,} {self._say(key)}" for key, count in shown.items())

    def _problem(self, problem: Problem) -> Text:
        text = Text(f"{SIGNS['error']} {self._say(problem.what)}", style="bold red")
        parts = {"got": problem.got, "expected": problem.expected, "try": problem.remedy}
        for label, said in parts.items():
            if said:
                text.append(f"\n  {self._labelled(label, self._say(said))}", style="none")
        return text

    def _findings(self, view: Overview) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 1), title_justify="left")
        table.add_column(self._say("finding"), no_wrap=True)
        table.add_column(self._say("rows"), justify="right", no_wrap=True)
        table.add_column(self._say("share"), justify="right", no_wrap=True)
        table.add_column("", ratio=1, overflow="fold")
        for finding in view.findings:
            style = SEVERITY_STYLES[finding.severity]
            name = Text(f"{SIGNS[finding.severity]} {self._say(finding.severity)}", style=style)
            amounts = (f"{finding.count:,}", f"{finding.share:.1%}") if finding.count else ("", "")
            table.add_row(name, *amounts, self._told(finding, view))
        return table

    def _told(self, finding: Finding, view: Overview) -> Text:
        """Write a finding: what was found, the first places, how to fix it."""
        check = self._say(called(CHECKS, finding.check))
        text = Text(visible(self._say(finding.what)), style="bold")
        text.append(f"  [{check}]", style="not bold dim")
        for place in finding.places:
            shown = place_in(view.short(place), self._language)
            text.append(f"\n{self._say('at')} {visible(shown)}", style="not bold dim")
        if finding.count > len(finding.places) > 0:
            more = f"and {finding.count - len(finding.places):,} more"
            text.append(f"\n{self._say(more)}", style="not bold dim")
        if finding.fix:
            fix = self._labelled("fix", visible(self._say(finding.fix)))
            text.append(f"\n{fix}", style="not bold green")
        return text

    def _lengths(self, view: Overview) -> Group:
        """Draw the histogram of sequence lengths, with a line at `max_length`."""
        limit = f"data.max_length {view.max_length}"
        title = f"{self._say('Length in tokens')}  ({self._say('longest')} {view.longest}, {limit})"
        most = max(one.count for one in view.lengths)
        lines = [Text(title, style="bold")]
        lines += [self._bar(one, most) for one in view.lengths]
        if view.lengths[-1].end >= view.max_length:
            lines.append(Text(f"{'':>11} ┴{'─' * BAR_COLUMNS} {limit}", style="red"))
        return Group(*lines)

    def _bar(self, one: Bin, most: int) -> Text:
        eighths = round(8 * BAR_COLUMNS * one.count / most)
        eighths = max(eighths, 1) if one.count else 0
        bar = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
        line = Text(f"{one.start:>5.0f}-{one.end:<5.0f} │", style="dim")
        line.append(bar, style="not dim cyan")
        return line.append(f" {one.count:,}" if one.count else "", style="not dim")

    def _sample(self, sample: Sample, place: str) -> Group:
        """Draw a sample with its tokens coloured by weight."""
        fate = self._say(FATES[sample.fate])
        head = f"{self._say('sample')} {sample.row}  {visible(place)}  {fate}"
        said = [f"{name} = {visible(value)}" for name, value in sample.details]
        drawn: list[RenderableType] = [Rule(head, align="left", style="dim")]
        if sample.reason:
            reason = visible(reason_in(sample.reason, sample.detail, self._language))
            drawn.append(Text(self._labelled("reason", reason), style="red"))
        if said:
            drawn.append(Text(", ".join(said), style="dim"))
        for passage in sample.passages:
            drawn += self._passage(passage)
        if any(passage.tokens for passage in sample.passages):
            drawn.append(self._legend(sample))
        return Group(*drawn)

    def _passage(self, passage: Passage) -> Iterator[RenderableType]:
        if passage.part:
            yield Text(passage.part, style="bold underline")
        for role, content in passage.turns:
            yield Text(role, style="bold")
            yield Padding(Text(visible(content)), (0, 0, 0, 2))
        if not passage.tokens:
            return
        yield self._coloured(passage.tokens)
        if passage.hidden_tokens:
            yield Text(self._say(more_tokens(passage.hidden_tokens)), style="dim")
        counts = token_counts(passage.kept_tokens, passage.trained_tokens)
        yield Text(self._say(counts), style="bold")

    def _coloured(self, tokens: Sequence[Token]) -> Text:
        text = Text()
        for (look, weight), run in groupby(tokens, lambda token: (look_of(token), token.weight)):
            shown = "".join(shown_text(token.text) for token in run)
            if self._colours:
                text.append(shown, style=look.style)
            else:
                share = f"{weight:g}:" if look is PARTLY else ""
                text.append(f"{look.open}{share}{shown}{look.close}")
        return text

    def _legend(self, sample: Sample) -> Text:
        met = {look_of(token) for passage in sample.passages for token in passage.tokens}
        text = Text(self._labelled("legend", ""), style="dim")
        for look in (look for look in LOOKS if look in met):
            word = self._say(look.name)
            text.append(
                word if self._colours else f"{look.open}{word}{look.close}", style=f"not dim {look.style}"
            )
            text.append("  ")
        return text


def shown_text(text: str) -> str:
    """Return a token's text with line ends made visible and control characters escaped."""
    return visible(text.replace("\r\n", "\n").replace("\r", "␍").replace("\n", "↵\n").replace("\t", "→   "))
