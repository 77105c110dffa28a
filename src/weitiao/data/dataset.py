"""From settings to examples ready to train on: read, check, split, render, count."""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import DataError, Problem, raise_all
from .bad_rows import problems_of
from .conversation import Conversation, Example
from .reading import Checked, check_data
from .render import Rendered, render_all
from .settings import DataSettings
from .split import count_duplicates, split_held_out
from .summary import Counts, Summary, dropped_counts, epoch_tokens, length_quantiles
from .template import Template, choose_template

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

__all__ = ["Prepared", "check_data", "fingerprint", "load_data", "prepare_data"]


@dataclass(frozen=True)
class Prepared:
    """Data ready to train on."""

    train: list[Example]
    held_out: list[Example]
    train_conversations: list[Conversation]
    """The conversations behind `train`, in its order."""
    held_out_conversations: list[Conversation]
    """The conversations behind `held_out`, in its order."""
    template: Template
    summary: Summary
    fingerprint: str
    """sha256 of all examples, in order, as hex; a run is resumed only on data with the same."""

    @property
    def draws(self) -> list[float]:
        """How many times an epoch sees each example of `train`, for `mixture.epoch_order`."""
        return [example.draws for example in self.train]


def load_data(
    settings: DataSettings,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    generation_config: GenerationConfig | None = None,
) -> Prepared:
    """Read, split and render the data; raises DataError with all problems at once, ModelError for the
    tokenizer."""
    return prepare_data(check_data(settings), settings, tokenizer, seed, generation_config)


def prepare_data(
    checked: Checked,
    settings: DataSettings,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    generation_config: GenerationConfig | None = None,
) -> Prepared:
    """Split and render what `check_data` returned; raises DataError, and ModelError for the tokenizer."""
    if settings.held_out_path is None:
        train, held_out = split_held_out(checked.conversations, settings.held_out, seed)
    else:
        train, held_out = checked.conversations, checked.held_out
    template = choose_template(tokenizer, settings.template, generation_config)
    counts = Counts(dropped=list(checked.bad))
    sides = [
        render_all(side, template, settings.max_length, settings.overlong, counts)
        for side in (train, held_out)
    ]
    _settle_refused(sides, settings, counts, len(train) + len(held_out))
    trained, measured = sides
    if not any(example.trained_tokens for example in trained.examples):
        raise DataError(_nothing_left(counts, settings))
    return Prepared(
        trained.examples,
        measured.examples,
        trained.conversations,
        measured.conversations,
        template,
        _summary(checked, trained, measured, template, counts),
        fingerprint(trained.examples, measured.examples),
    )


def fingerprint(*sides: Sequence[Example]) -> str:
    """Return the sha256 of examples' ids, weights, draws and order, as hex."""
    digest = hashlib.sha256()
    for examples in sides:
        digest.update(struct.pack("<q", len(examples)))
        for example in examples:
            digest.update(struct.pack("<qd", len(example.ids), example.draws))
            digest.update(array("q", example.ids).tobytes())
            digest.update(array("d", example.weights).tobytes())
    return digest.hexdigest()


def _settle_refused(sides: Sequence[Rendered], settings: DataSettings, counts: Counts, read: int) -> None:
    """Count rows the chat template refuses, or raise DataError with all of them."""
    refused = [row for side in sides for row in side.refused]
    if settings.skip_bad_rows:
        counts.dropped += refused
    else:
        raise_all(DataError, problems_of(refused, "turns that the model's chat template takes", read))


def _nothing_left(counts: Counts, settings: DataSettings) -> Problem:
    reasons, _ = dropped_counts(counts.dropped)
    got = "; ".join(f"{count} rows: {reason}" for reason, count in reasons.items()) or "no rows"
    remedy = f"a larger data.max_length (it is {settings.max_length})"
    if settings.overlong == "drop":
        remedy += ", or data.overlong=cut"
    return Problem("no token of the data is left to train on", got, "at least one row that is kept", remedy)


def _summary(
    checked: Checked, trained: Rendered, measured: Rendered, template: Template, counts: Counts
) -> Summary:
    everything = [*trained.examples, *measured.examples]
    tokens, trained_tokens = epoch_tokens(trained.examples)
    dropped, places = dropped_counts(counts.dropped)
    notes = list(checked.notes)
    if not template.takes_system and any(one.messages[0].role == "system" for one in checked.conversations):
        notes.append(
            "the chat template has no system message; the system text stands before the first question"
        )
    return Summary(
        read=checked.read,
        kept=len(trained.conversations) + len(measured.conversations),
        train=len(trained.examples),
        held_out=len(measured.examples),
        dropped=dropped,
        dropped_places=places,
        cut=counts.cut,
        turns_left_out=counts.turns_left_out,
        answers_shortened=counts.answers_shortened,
        duplicates=count_duplicates(checked.conversations),
        formats=dict(checked.formats),
        template=template.kind,
        tokens=tokens,
        trained_tokens=trained_tokens,
        length_tokens=length_quantiles(everything),
        notes=notes,
    )
