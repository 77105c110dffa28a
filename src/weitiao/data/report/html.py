"""Renders the gate's report as one self-contained HTML page: no requests, no external scripts, everything escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import Problem, SettingsError
from ...core.files import write_atomic
from ...core.locale import LANGUAGES, Language, in_language
from ...core.units import readable_count
from ...core.visible import visible
from ..checks._kinds import CONTROL
from ..gate.gate import Gate
from . import phrases
from .overview import Overview
from .phrases import CHECKS, FACTS, both, called
from .token_view import Sample, Samples, Token

if TYPE_CHECKING:
    from jinja2 import Environment

MARKER = "<!-- a page of weitiao check -->"
MARKER_WITHIN_BYTES = 200
SPREAD_SAMPLES, ROWS_A_FINDING, MOST_FINDING_ROWS = 50, 3, 60
MOST_TOKENS, MOST_CHARACTERS = 4000, 20_000
"""The maximum of a passage on the page: in tokens with a model (the rest is counted), in characters without a model
(the rest becomes …)."""
PICTURED = ("lengths",)
"""Checks whose facts have charts of their own."""


@dataclass(frozen=True)
class Chart:
    """Counts by name, drawn as bars."""

    name: str
    bars: tuple[tuple[str, int], ...]

    @property
    def most(self) -> int:
        """The highest count, at least 1."""
        return max(1, *(count for _, count in self.bars))


@dataclass(frozen=True)
class Numbers:
    """Numbers of one check, as a table."""

    name: str
    rows: tuple[tuple[tuple[str, ...], str], ...]
    """The names of a fact and its value."""


@dataclass(frozen=True)
class Listing:
    """Texts with counts, such as the most frequent system prompts."""

    name: str
    rows: tuple[Mapping[str, Any], ...]


def rows_to_show(view: Overview, samples: Samples) -> list[int]:
    """Return the rows to show as samples: the first rows of findings, and some spread over the data."""
    pointed = [row for finding in view.findings for row in finding.rows[:ROWS_A_FINDING]]
    return [*pointed[:MOST_FINDING_ROWS], *samples.spread(SPREAD_SAMPLES)]


def require_free(path: Path, force: bool) -> None:
    """Raise SettingsError if the page cannot be written: the folder is missing, or the path is a folder or another
    file that `force` does not overwrite."""
    if not path.absolute().parent.is_dir():
        what = "the folder of the page does not exist"
        raise SettingsError(
            Problem(what, str(path), "a file in a folder that exists", f"mkdir -p {path.parent}")
        )
    if path.is_dir():
        raise SettingsError(
            Problem("this is a folder", str(path), "a file", f"--html {path / 'report.html'}")
        )
    if force or not path.exists():
        return
    with path.open("rb") as handle:
        ours = MARKER.encode() in handle.read(MARKER_WITHIN_BYTES)
    if not ours:
        what = "this file is not a page of weitiao check, and is not overwritten"
        raise SettingsError(Problem(what, str(path), "a new file", "another name, or --force"))


def write_page(path: Path, page: str) -> None:
    """Write the page; raises OSError."""
    # A lone surrogate, which JSON allows, cannot be encoded in UTF-8.
    write_atomic(path, page.encode("utf-8", "backslashreplace"))


def page(gate: Gate, view: Overview, samples: Sequence[Sample], language: Language) -> str:
    """Return the page as HTML; it opens in `language`, which can be switched in the page."""
    from markupsafe import Markup

    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            marker=MARKER,
            language=language,
            gate=gate,
            view=view,
            samples=samples,
            shown_rows={sample.row for sample in samples},
            charts=list(charts(gate.facts)),
            numbers=list(numbers(gate.facts)),
            listings=list(_listings(gate.facts)),
            style=Markup(_part("page.css")),
            script=Markup(_part("page.js")),
            script_hash=_hash_of(_part("page.js")),
        )
    )


def charts(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Chart]:
    """Yield a chart for each fact, of any check, that is counts by name."""
    for name, counts in _facts_by_name(facts):
        if _is_table(counts) and len(counts) > 1:
            yield Chart(called(FACTS, name), tuple((str(key), count) for key, count in counts.items()))


def _listings(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Listing]:
    for name, rows in _facts_by_name(facts):
        if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
            yield Listing(called(FACTS, name), tuple(rows))


def _facts_by_name(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the facts of all checks, except those with charts of their own and those that `_numbers` shows entirely."""
    for check, given in facts.items():
        if check not in PICTURED and not _is_grid(given):
            yield from given.items()


def numbers(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Numbers]:
    """Yield, for each check, the facts that are plain numbers or words, or tables of one line."""
    for check, given in facts.items():
        rows = [
            (names, _number(value))
            for names, value in _plain_facts(given)
            if isinstance(value, str | int | float) and value not in (0, "")
        ]
        if rows and check not in PICTURED:
            yield Numbers(called(CHECKS, check), tuple(rows))


def _plain_facts(given: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    grid = _is_grid(given)
    for name, value in given.items():
        title = called(FACTS, name)
        if isinstance(value, Mapping):
            if grid or (_is_table(value) and len(value) == 1):
                yield from (((title, FACTS.get(str(inner), str(inner))), n) for inner, n in value.items())
        else:
            yield (title,), value


def _is_table(value: object) -> bool:
    """Return whether a value is counts by name."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(n, int) for n in value.values())


def _is_grid(given: Mapping[str, Any]) -> bool:
    """Return whether all facts are counts under the same few names, such as copies and groups by kind."""
    values = list(given.values())
    names = {tuple(value) if _is_table(value) else None for value in values}
    return len(values) > 1 and len(names) == 1 and None not in names


def both_joined(names: Sequence[str]) -> tuple[str, str]:
    """Return the names of a fact in English and Chinese; what is named by the data stays as it is."""
    return ", ".join(names), "，".join(in_language(name, "zh") for name in names)


def _number(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def token_class(token: Token) -> str:
    """Return the CSS classes of a token."""
    kinds = {
        "x": token.cut,
        "c": token.control,
        "t": token.weight >= 1 and not token.cut,
        "p": 0 < token.weight < 1 and not token.cut,
    }
    return " ".join(name for name, holds in kinds.items() if holds)


def unbroken_tokens(value: object) -> object:
    """Return a text with each control token in a span, in which the page breaks no lines."""
    from markupsafe import Markup, escape

    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    parts, at = [], 0
    for found in CONTROL.finditer(value):
        parts += [escape(visible(value[at : found.start()])), Markup('<span class="whole">')]
        parts += [escape(visible(found[0])), Markup("</span>")]
        at = found.end()
    return Markup("").join([*parts, escape(visible(value[at:]))]) if at else value


def token_text(token: Token) -> str:
    """Return a token's text with visible line ends and tabs."""
    return token.text.replace("\r", "␍").replace("\n", "↵\n").replace("\t", "→\t")


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath("page_parts", name).read_text(encoding="utf-8")


def _hash_of(script: str) -> str:
    """Return a script's sha256 in base64, for the content security policy: only this script may run in the page."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _harmless(value: object) -> object:
    """Make invisible characters and direction marks visible; the page's own markup is unchanged."""
    from markupsafe import Markup

    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    made = Environment(
        loader=FunctionLoader(_part),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["whole"] = unbroken_tokens
    made.globals |= {
        "both": both,
        "joined": both_joined,
        "phrases": phrases,
        "place": lambda place: (place, phrases.place_in(place, "zh")),
        "why": lambda one: tuple(phrases.reason_in(one.reason, one.detail, to) for to in LANGUAGES),
        "check_name": lambda check: both(called(CHECKS, check)),
        "token_class": token_class,
        "token_text": token_text,
        "most_characters": MOST_CHARACTERS,
        "count": readable_count,
    }
    return made
