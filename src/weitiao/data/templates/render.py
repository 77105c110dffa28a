"""Renders rows into token sequences; `truncation.py` decides what becomes of those longer than `max_length`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..bad_rows import BadRow
from ..conversation import Conversation
from ..example import TokenSequence
from ..formats._base import RowError
from ..forms import AnyForm, Text, Tokens, parts
from .rendered_row import RenderedRow
from .spans import Masks
from .template import Template
from .truncation import LengthPolicy, fit_conversation, fit_tokens, text_pieces

if TYPE_CHECKING:
    from ..settings import DataSettings

NOTHING_TRAINED = "none of its tokens is trained (the weights of its messages are 0)"
NO_TOKEN = "none of its tokens is trained (the tokenizer produces none from its text)"


def masks_of(settings: DataSettings) -> Masks:
    """Return which tokens are trained, from the settings."""
    return Masks(settings.train_on, settings.reasoning)


def render_chunk(forms: Sequence[AnyForm], template: Template, settings: DataSettings) -> list[RenderedRow]:
    """Render rows in order, with one call of the tokenizer, by the policy of the settings."""
    policy = LengthPolicy(template, settings.max_length, settings.overlong, masks_of(settings))
    split = [parts(form) for form in forms]
    given = [part for own in split for _, part in own if not isinstance(part, Tokens)]
    rendered = iter(zip(given, policy.template.render_many(given, policy.masks), strict=True))
    rows = []
    for own in split:
        row = RenderedRow()
        for name, one in own:
            if isinstance(one, Tokens):
                _take_tokens(row, one, policy)
            else:
                part, sequences = next(rendered)
                _take(row, name, part, sequences, policy)
        rows.append(_whole(row, len(own)))
    return rows


def _take(
    row: RenderedRow,
    name: str,
    part: Conversation | Text,
    sequences: list[TokenSequence] | RowError,
    policy: LengthPolicy,
) -> None:
    """Add the sequences of one part to a row, or the reason they are left out."""
    if isinstance(sequences, RowError):
        row.refused = row.refused or sequences
        return
    if not sequences:
        row.lost.append(BadRow(part.place, NO_TOKEN if isinstance(part, Text) else NOTHING_TRAINED))
        return
    if isinstance(part, Text):
        kept = [piece for sequence in sequences for piece in text_pieces(sequence, policy.max_length)]
    else:
        kept = fit_conversation(row, part, sequences, policy)
    row.sequences += kept
    row.parts += [name] * len(kept)


def _take_tokens(row: RenderedRow, one: Tokens, policy: LengthPolicy) -> None:
    """Add a row's own tokens as a sequence; no template renders them, but the policy for long rows applies."""
    vocabulary = policy.template.vocabulary
    if max(one.ids) >= vocabulary:
        at = next(at for at, id in enumerate(one.ids) if id >= vocabulary)
        detail = f"number {at + 1} is {one.ids[at]}, the tokenizer has {vocabulary} tokens"
        row.refused = RowError("'input_ids' holds a number outside of the vocabulary", detail)
        return
    if not any(one.weights[1:]):
        row.lost.append(BadRow(one.place, NOTHING_TRAINED))
        return
    kept = fit_tokens(row, one, policy)
    row.sequences += kept
    row.parts += [""] * len(kept)


def _whole(row: RenderedRow, count: int) -> RenderedRow:
    """Drop all sequences of a row if a part of it is refused, or if it has several parts and lost one: a preference
    needs both its answers."""
    if row.refused is not None or (count > 1 and row.lost):
        row.sequences, row.parts = [], []
    return row
