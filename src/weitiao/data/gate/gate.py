"""The data gate: checks the data before training, and provides the examples to train on.

One pass over the rows reads, parses, renders, checks and stores them (pipeline.py). The result is cached by content
(cache.py), so the same data with the same settings is available at once the next time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...core.errors import DataError, Problem, nearest
from ..bad_rows import BadRow
from ..checks._base import SHOWN_PLACES, Finding, GateContext, GateOutcome
from ..checks._row_text import RowText, row_text
from ..settings import PLACEHOLDER, DataSettings
from ..templates.row_fields import unknown_fields
from ..templates.text_template import ALWAYS_KNOWN, corrected, typed
from .cache import Kept, cached_or_made, entry_name, tokenizer_version
from .pipeline import EFFORT, Effort, Worked, Worker, make_checks, work_on
from .source_chunks import Sourced
from .split import choose_held_out
from .store import Store, StoreWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from ..templates.template import Template

Verdict = Literal["error", "warning", "ok"]
GATE_FILE, HELD_OUT_FILE = "gate.json", "held_out.bin"
COUNTERS = ("formats", "forms", "filled", "unfilled")
NOT_IN_ENTRY = {"sources", "held_out_path", "accept", "skip_bad_rows", "replay"}
"""Settings that do not enter the entry's name directly: they enter it in another form, or do not affect the result."""
OnRows = Callable[[int], None]
"""Progress callback; gets the number of rows processed so far."""


@dataclass
class Tally:
    """The counts of the pass, as plain values that are saved next to the store."""

    read: int = 0
    """Rows read, including unusable ones."""
    sources_end: int = 0
    """The number of the first row of `held_out_path`, whose rows come after those of all sources."""
    formats: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    """Rows by form (forms.FORMS)."""
    unused: dict[str, dict[str, int]] = field(default_factory=dict)
    """By source: the unused columns and keys of turns, with their numbers of rows."""
    detected: list[dict[str, str]] = field(default_factory=list)
    """For each source: its name, its format, and why."""
    bad: list[dict[str, Any]] = field(default_factory=list)
    """Rows that cannot be used: number, place, reason, detail."""
    dropped: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Rows left out, by reason: their numbers and the first places."""
    left_out_tokens: list[int] = field(default_factory=list)
    """For each row that lost a sequence because of its length: the tokens of the longest one."""
    cut: int = 0
    turns_left_out: int = 0
    answers_shortened: int = 0
    notes: list[str] = field(default_factory=list)
    filled: Counter[str] = field(default_factory=Counter)
    unfilled: Counter[str] = field(default_factory=Counter)

    def add(self, worked: Worked) -> None:
        """Add the counts of a chunk."""
        self.read += worked.rows
        self.formats += worked.formats
        self.forms += worked.forms
        for source, names in worked.unused.items():
            counts = self.unused.setdefault(source, {})
            for name, count in names.items():
                counts[name] = counts.get(name, 0) + count
        self.bad += [{"number": number, **asdict(bad)} for number, bad in worked.bad]
        for reason, hits in worked.dropped.items():
            seen = self.dropped.setdefault(reason, {"numbers": [], "places": []})
            seen["numbers"] += list(hits.numbers)
            seen["places"] += hits.details[: SHOWN_PLACES - len(seen["places"])]
        self.left_out_tokens += worked.left_out_tokens
        self.cut += worked.cut
        self.turns_left_out += worked.turns_left_out
        self.answers_shortened += worked.answers_shortened
        self.filled += worked.filled
        self.unfilled += worked.unfilled

    def dropped_counts(self) -> dict[str, int]:
        """Return the number of rows left out by reason, highest first, including those that `skip_bad_rows` skips."""
        counts = Counter({reason: len(seen["numbers"]) for reason, seen in self.dropped.items()})
        counts.update(bad["reason"] for bad in self.bad)
        return dict(counts.most_common())

    def dropped_places(self, shown: int = 3) -> dict[str, list[str]]:
        """Return the first places of each reason."""
        places = {reason: list(seen["places"]) for reason, seen in self.dropped.items()}
        for bad in self.bad:
            places.setdefault(bad["reason"], []).append(bad["place"])
        return {reason: own[:shown] for reason, own in places.items()}

    @property
    def bad_rows(self) -> list[BadRow]:
        """The rows that cannot be used."""
        return [BadRow(bad["place"], bad["reason"], bad["detail"]) for bad in self.bad]


@dataclass(frozen=True)
class Gate:
    """The gate's findings, and the store with the examples."""

    settings: DataSettings
    template: Template | None
    """None if the gate ran without a model."""
    store: Store
    tally: Tally
    held_out: NDArray[np.bool_]
    """By row number: whether the row is in the held-out set."""
    findings: list[Finding]
    facts: dict[str, Mapping[str, Any]]
    """Numbers for tables and charts, by check."""
    problems: tuple[Problem, ...] = ()
    """What prevents sources from being read, or the split from being made."""
    from_cache: bool = False
    _kept: Kept | None = None
    """The store's folder; keeps a temporary folder alive as long as the gate."""

    @property
    def verdict(self) -> Verdict:
        """The highest severity found: error, warning or ok."""
        found = {finding.severity for finding in self.findings}
        if self.problems or "error" in found:
            return "error"
        return "warning" if "warning" in found else "ok"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "verdict": self.verdict,
            "problems": [asdict(problem) for problem in self.problems],
            "findings": [finding.as_dict() for finding in self.findings],
            "facts": self.facts,
            **_plain_tally(self.tally),
            "held_out": int(self.held_out.sum()),
            "template": self.template.kind if self.template else None,
        }


def _plain_tally(tally: Tally) -> dict[str, Any]:
    counters = {name: dict(getattr(tally, name)) for name in COUNTERS}
    return {**asdict(tally), **counters}


def open_data(
    settings: DataSettings,
    tokenizer: PreTrainedTokenizerBase | None = None,
    seed: int = 0,
    generation_config: GenerationConfig | None = None,
    on_rows: OnRows | None = None,
    effort: Effort = EFFORT,
    day: date | None = None,
) -> Gate:
    """Read and check all data. Faults of the data do not raise: they are in `Gate.findings` and `Gate.problems`.

    Without a tokenizer nothing is rendered. `day` is the date given to templates that write one; default: today.
    Raises ModelError for a tokenizer or template that cannot be used.
    """
    from ..templates.template import choose_template

    wording, day = settings.wording, day or date.today()
    template = None if tokenizer is None else choose_template(tokenizer, wording, generation_config, day)
    context = GateContext(settings, template, tokenizer)
    sourced = Sourced(settings, seed, effort)
    name = _entry(settings, sourced, tokenizer, template, seed)
    kept, from_cache = cached_or_made(name, lambda empty: _make(empty, context, sourced, on_rows, effort))
    return _opened(kept, context, from_cache)


def _entry(
    settings: DataSettings,
    sourced: Sourced,
    tokenizer: PreTrainedTokenizerBase | None,
    template: Template | None,
    seed: int,
) -> str | None:
    """Return the name of the cache entry; None if the content of a source is not known before reading it."""
    content = sourced.content()
    if content is None:
        return None
    rest = settings.model_dump_json(exclude=NOT_IN_ENTRY)
    reads_with = (
        tokenizer_version(tokenizer) + str(sorted(template.stop_ids)) if tokenizer and template else ""
    )
    day = str(template.day) if template and template.writes_date else ""
    return entry_name([*content, str(settings.held_out_path), rest, reads_with, day, str(seed)])


def _make(
    folder: Path, context: GateContext, sourced: Sourced, on_rows: OnRows | None, effort: Effort
) -> bool:
    """Fill a folder with the store and the findings; returns whether it may be kept in the cache."""
    tally, checks = Tally(), make_checks(context)
    work = work_on(sourced.chunks(), Worker(context), effort.processes)
    with closing(StoreWriter(folder)) as writer, closing(work):
        for worked in work:
            writer.add(worked.block)
            tally.add(worked)
            sourced.columns_met |= worked.columns
            for name, state in worked.states.items():
                checks[name].merge(state)
            if on_rows is not None:
                on_rows(tally.read)
        writer.finish()
    tally.sources_end = sourced.sources_end if sourced.sources_end is not None else tally.read
    tally.notes += sourced.notes
    tally.detected += sourced.detected
    problems = [
        *sourced.problems_at_end(),
        *_useless_fills(context.settings, tally),
        *_unknown_fields(context.settings, sourced.columns_met),
    ]
    store = Store(folder)
    held_out, split_problems = _split(
        store, tally, context.settings, sourced.seed, context.template is not None
    )
    outcome = GateOutcome(tally.read, _Places(store), held_out, _texts(store))
    findings = [finding for check in checks.values() for finding in check.findings(outcome)]
    facts = {name: dict(check.facts(outcome)) for name, check in checks.items()}
    _write(folder, tally, held_out, findings, facts, [*problems, *split_problems])
    return not problems and sourced.is_unchanged()


class _Places(Sequence[str]):
    """The place of each row, by number, read lazily from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __len__(self) -> int:
        return self._store.rows

    def __getitem__(self, row: Any) -> Any:  # noqa: ANN401  (a number gives a place, a slice a list)
        if isinstance(row, slice):
            return [self._store.place(number) for number in range(*row.indices(len(self)))]
        return self._store.place(row)


def _texts(store: Store) -> Callable[[int], RowText]:
    """Return a function that reads a usable row's texts from the store; it raises ValueError for any other row."""

    def read(row: int) -> RowText:
        form = store.form(row)
        if form is None:
            raise ValueError(f"row {row} cannot be used, so it has no texts")
        return row_text(form)

    return read


def _split(
    store: Store, tally: Tally, settings: DataSettings, seed: int, rendered: bool
) -> tuple[NDArray[np.bool_], list[Problem]]:
    """Return which rows are held out, and a problem if nothing would be left to train on."""
    usable = kept_rows(store, rendered)
    if settings.held_out_path is not None:
        held_out = np.arange(store.rows) >= tally.sources_end
        return held_out & usable, []
    try:
        return choose_held_out(store.arrays["row_keys"], usable, settings.held_out, seed), []
    except DataError as error:
        return np.zeros(store.rows, dtype=bool), list(error.problems)


def kept_rows(store: Store, rendered: bool) -> NDArray[np.bool_]:
    """Return which rows give an example; for data that was not rendered, which rows are usable."""
    if rendered:
        kept = np.zeros(store.rows, dtype=bool)
        kept[store.arrays["example_rows"]] = True
        return kept
    meant: NDArray[np.bool_] = np.diff(store.arrays["form_starts"]) > 0
    return meant


def _useless_fills(settings: DataSettings, tally: Tally) -> list[Problem]:
    """Return problems for `data.fill` values of placeholders that do not occur."""
    names = sorted({*tally.filled, *tally.unfilled})
    return [
        Problem(
            f"the data has no placeholder {{{{{name}}}}}",
            f"data.fill.{name}={value}",
            "one of " + ", ".join(names) if names else "this data has no placeholders",
            " or ".join(f"data.fill.{near}={value}" for near in nearest(name, tally.unfilled)),
        )
        for name, value in settings.fill.items()
        if name not in tally.filled and name not in PLACEHOLDER.findall(settings.system)
    ]


def _unknown_fields(settings: DataSettings, columns: set[str]) -> list[Problem]:
    """Return problems for template fields that no column fills."""
    known = sorted({*ALWAYS_KNOWN, *columns})
    return [
        Problem(
            f"no column of the data fills the field {{{name}}}",
            f"{setting} has {{{name}}}",
            "one of " + ", ".join(known),
            " or ".join(
                typed(setting, corrected(text, name, near)) for near in nearest(name, known, count=1)
            ),
        )
        for setting, text, name in unknown_fields(settings.wording, columns)
    ]


def _write(
    folder: Path,
    tally: Tally,
    held_out: NDArray[np.bool_],
    findings: Sequence[Finding],
    facts: Mapping[str, Mapping[str, Any]],
    problems: Sequence[Problem],
) -> None:
    """Save the tally, findings, facts, problems and the split next to the store."""
    held_out.tofile(folder / HELD_OUT_FILE)
    plain = {
        "tally": _plain_tally(tally),
        "findings": [finding.as_dict() for finding in findings],
        "facts": facts,
        "problems": [asdict(problem) for problem in problems],
    }
    (folder / GATE_FILE).write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")


def _opened(kept: Kept, context: GateContext, from_cache: bool) -> Gate:
    """Build the gate from what `_write` saved, on a first run too, so that every run sees the same."""
    plain = json.loads((kept.path / GATE_FILE).read_text(encoding="utf-8"))
    tally: dict[str, Any] = plain["tally"]
    tally |= {name: Counter(tally[name]) for name in COUNTERS}
    return Gate(
        settings=context.settings,
        template=context.template,
        store=Store(kept.path),
        tally=Tally(**tally),
        held_out=np.fromfile(kept.path / HELD_OUT_FILE, dtype=bool),
        findings=[_finding(one) for one in plain["findings"]],
        facts=plain["facts"],
        problems=tuple(Problem(**one) for one in plain["problems"]),
        from_cache=from_cache,
        _kept=kept,
    )


def _finding(plain: Mapping[str, Any]) -> Finding:
    return Finding(**{**plain, "places": tuple(plain["places"]), "rows": tuple(plain["rows"])})
