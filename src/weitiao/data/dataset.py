"""Data ready to train on, after the checks of the gate; all problems that prevent training are raised together."""

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
"""The forms that supervised fine-tuning trains directly; all others need an objective of their own."""
ASKED_FROM = 1000
"""How many held-out rows `held_out_conversations` is made from."""


@dataclass(frozen=True)
class Prepared:
    """Data ready to train on."""

    train: Sequence[Example]
    held_out: Sequence[Example]
    held_out_conversations: Sequence[Conversation]
    """The conversations of the first rows of `held_out`, in the same order, as a source of sample questions."""
    template: Template
    summary: Summary
    fingerprint: str
    """Hex sha256 of all examples in order; a run resumes only on data with the same fingerprint."""
    gate: Gate | None = None
    """The gate's results, which also own the examples."""


def load_data(
    settings: DataSettings,
    tokenizer: PreTrainedTokenizerBase,
    seed: int = 0,
    generation_config: GenerationConfig | None = None,
    forms: Collection[str] = CONVERSATIONS,
    on_rows: OnRows | None = None,
    day: date | None = None,
) -> Prepared:
    """Read, check and tokenize data; raises DataError with all problems, ModelError for the tokenizer.

    `forms` are the forms the objective trains; rows of other forms are refused. `day` is as in `open_data`.
    """
    gate = open_data(settings, tokenizer, seed, generation_config, on_rows, day=day)
    require_trainable(gate, forms)
    return prepared(gate)


def check_data(settings: DataSettings, forms: Collection[str] = CONVERSATIONS) -> Gate:
    """Run all checks that need no tokenizer; raises DataError with all problems of all sources."""
    gate = open_data(settings)
    require_trainable(gate, forms)
    return gate


def require_trainable(gate: Gate, forms: Collection[str]) -> None:
    """Raise DataError with all problems that prevent training on the data."""
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
    """Return a problem for each form of row that the objective does not train."""
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
    """Return a problem for each finding of severity error, except those of checks the user accepted."""
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
    remedy = (
        f"a larger data.max_length (it is {settings.max_length}), or data.overlong=cut"
        if settings.overlong == "drop"
        else f"a larger data.max_length (it is {settings.max_length})"
    )
    return Problem("no token of the data is left to train on", got, "at least one row that is kept", remedy)


def prepared(gate: Gate) -> Prepared:
    """Return the data of a gate as training and held-out examples; raises ValueError if it has no template."""
    if gate.template is None:
        raise ValueError("the data was checked without a tokenizer")
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
    """Return the first part of each form, if that part is a conversation."""
    first = (parts(form)[0][1] for form in forms)
    return [one for one in first if isinstance(one, Conversation)]


# The arrays that determine what is trained; the fingerprint covers them.
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
    """Return the sha256 of all examples (ids, weights, draws, labels) and of the split into training and held-out."""
    digest = hashlib.sha256()
    labels = [gate.store.forms] if gate.store.labelled else []
    for values in [*(gate.store.arrays[name] for name in DECIDES), *labels, *sides]:
        digest.update(b"%d:" % len(values))
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
