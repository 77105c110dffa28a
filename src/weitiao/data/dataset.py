"""Data ready to train on: what came through the gate; all that keeps it from being trained is raised at once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import DataError, Problem, raise_all
from .bad_rows import problems_of
from .conversation import Conversation
from .example import Example
from .formats._detect import load_formats
from .forms import FORMS, AnyForm, parts
from .gate.gate import Gate, OnRows, kept_rows, open_data
from .gate.store import StoredExamples, StoredForms
from .gate.summary import Summary, summary_of
from .settings import DataSettings
from .templates.template import Template

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

CONVERSATIONS = ("conversation", "text", "pair", "tokens")
"""The forms that are trained as they are read, without an objective of their own."""
ASKED_FROM = 1000


@dataclass(frozen=True)
class Prepared:
    """Data ready to train on."""

    train: Sequence[Example]
    held_out: Sequence[Example]
    held_out_conversations: Sequence[Conversation]
    """The conversations behind the first rows of `held_out`, in its order, to ask questions from."""
    template: Template
    summary: Summary
    fingerprint: str
    """sha256 of all examples, in order, as hex; a run is resumed only on data with the same."""
    gate: Gate | None = None
    """What the gate found; it holds the examples."""


def load_data(
    settings: DataSettings,
    tokenizer: PreTrainedTokenizerBase,
    seed: int = 0,
    generation_config: GenerationConfig | None = None,
    forms: Collection[str] = CONVERSATIONS,
    on_rows: OnRows | None = None,
    day: date | None = None,
) -> Prepared:
    """Bring data through the gate; raises DataError with all that is wrong, ModelError for the tokenizer.

    `forms` are what the objective trains; rows that mean something else are refused. `day` is as in `open_data`.
    """
    gate = open_data(settings, tokenizer, seed, generation_config, on_rows, day=day)
    require_trainable(gate, forms)
    return prepared(gate)


def check_data(settings: DataSettings, forms: Collection[str] = CONVERSATIONS) -> Gate:
    """Check everything that needs no tokenizer; raises DataError with all problems of all sources."""
    gate = open_data(settings)
    require_trainable(gate, forms)
    return gate


def require_trainable(gate: Gate, forms: Collection[str]) -> None:
    """Raise DataError with everything that keeps the data from being trained on."""
    problems = [*_bad_rows(gate), *gate.problems, *_other_forms(gate, forms), *_errors(gate)]
    if not problems and not kept_rows(gate.store, gate.template is not None).any():
        problems.append(_nothing_left(gate))
    raise_all(DataError, problems)


def _bad_rows(gate: Gate) -> list[Problem]:
    if gate.settings.skip_bad_rows:
        return []
    names = list(gate.tally.formats) or [one["format"] for one in gate.tally.detected]
    expected = " or ".join(load_formats()[name].example for name in dict.fromkeys(names))
    return problems_of(gate.tally.bad_rows, expected, gate.tally.read)


def _other_forms(gate: Gate, forms: Collection[str]) -> list[Problem]:
    """Describe rows that mean something the objective does not train."""
    return [
        Problem(
            f"these rows are of the form {kind!r}, which this objective does not train",
            f"{count} of {gate.tally.read} rows ({', '.join(gate.tally.formats)})",
            "rows of the form " + ", ".join(name for name in FORMS if name in forms),
            " or ".join(dict.fromkeys(filter(None, (one.get("as_answers") for one in gate.tally.detected)))),
        )
        for kind, count in gate.tally.forms.items()
        if kind not in forms
    ]


def _errors(gate: Gate) -> list[Problem]:
    """Describe what the checks call errors, without those that a person accepts."""
    return [
        Problem(
            finding.what,
            "\n".join([f"{finding.count} rows", *finding.places]),
            "",
            f"{finding.fix}, or data.accept={finding.check}",
        )
        for finding in gate.findings
        if finding.severity == "error" and finding.check not in gate.settings.accept
    ]


def _nothing_left(gate: Gate) -> Problem:
    settings, reasons = gate.settings, gate.tally.dropped_counts()
    got = "; ".join(f"{count} rows: {reason}" for reason, count in reasons.items()) or "no rows"
    if not gate.tally.dropped:
        return Problem("no row of the data can be used", got, "at least one row")
    remedy = f"a larger data.max_length (it is {settings.max_length})"
    if settings.overlong == "drop":
        remedy += ", or data.overlong=cut"
    return Problem("no token of the data is left to train on", got, "at least one row that is kept", remedy)


def prepared(gate: Gate) -> Prepared:
    """Return what can be trained on of data that came through the gate with a template; ValueError without one."""
    if gate.template is None:
        raise ValueError("the data was looked at without a tokenizer")
    rows = gate.store.arrays["example_rows"]
    away = gate.held_out[rows]
    train, held_out = np.flatnonzero(~away), np.flatnonzero(away)
    held_rows = np.unique(rows[held_out])
    return Prepared(
        StoredExamples(gate.store, train),
        StoredExamples(gate.store, held_out),
        _conversations(StoredForms(gate.store, held_rows[:ASKED_FROM])),
        gate.template,
        summary_of(gate, train, held_out),
        _fingerprint(gate, train, held_out),
        gate,
    )


def _conversations(forms: Iterable[AnyForm]) -> list[Conversation]:
    """Return what can be asked: the first part of each form, where that is a conversation."""
    first = (parts(form)[0][1] for form in forms)
    return [one for one in first if isinstance(one, Conversation)]


DECIDES = (
    "ids",
    "sequence_starts",
    "span_lengths",
    "span_weights",
    "span_starts",
    "row_draws",
    "example_starts",
    "example_rows",
)


def _fingerprint(gate: Gate, *sides: np.ndarray) -> str:
    """Return the sha256 of all examples (ids, weights, draws, labels), and of which are trained and which held out."""
    digest = hashlib.sha256()
    labels = [gate.store.forms] if gate.store.labelled else []
    for values in [*(gate.store.arrays[name] for name in DECIDES), *labels, *sides]:
        digest.update(b"%d:" % len(values))
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
