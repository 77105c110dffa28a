"""What rows mean to token sequences, with the policy for rows that are longer than `max_length`.

`drop` leaves them out. `cut` leaves out the earliest exchanges (the system message stays), then the middle of the
last answer's thought, then the end of that answer. A question, the assistant's header, the tags around a thought, a
tool call and the token that ends an answer are never cut; what cannot be kept so is left out and counted. Plain text
is cut into pieces, and loses nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from ..bad_rows import BadRow
from ..conversation import Conversation, Message
from ..example import TokenSequence
from ..formats._base import RowError
from ..forms import AnyForm, Text, Tokens, parts
from .spans import Masks, without_reasoning
from .template import Template
from .truncation import shortenable

if TYPE_CHECKING:
    from ..settings import DataSettings

NOTHING_TRAINED = "no token of it is trained (the weights of its messages are 0)"
NO_TOKEN = "no token of it is trained (the tokenizer makes none of its text)"
TOO_LONG = "longer than {max_length} tokens (data.max_length)"
NO_ROOM = "the question leaves no room for an answer in {max_length} tokens"
NEVER_CUT = (
    "longer than {max_length} tokens, and nothing of its answer may be cut (tool calls and JSON stay whole)"
)
TOKENS_STAY = "longer than {max_length} tokens, and answers that are tokens already (input_ids) are not cut"
REASONS = {
    NOTHING_TRAINED: "没有一个词元参与训练（各轮的 weight 都是 0）",
    NO_TOKEN: "没有一个词元参与训练（分词器没有从文本得到词元）",
    TOO_LONG: "超过 {max_length} 个词元（data.max_length）",
    NEVER_CUT: "超过 {max_length} 个词元，而回答里没有可以截短的部分（工具调用和 JSON 保持完整）",
    TOKENS_STAY: "超过 {max_length} 个词元，而已经是词元的回答（input_ids）不截短",
    NO_ROOM: "问题占满了 {max_length} 个词元，回答放不下",
}
"""Why rows are left out, in English and Chinese."""


@dataclass
class RenderedRow:
    """What one row became."""

    sequences: list[TokenSequence] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    """For each sequence the part of the row that it is (see forms.parts)."""
    refused: RowError | None = None
    """Why the template itself refuses the row."""
    lost: list[BadRow] = field(default_factory=list)
    """For each sequence left out, why."""
    lost_tokens: int = 0
    """How many tokens the longest of them had, 0 where that was not counted."""
    cut: int = 0
    """How many of its sequences were made shorter."""
    cut_tokens: int = 0
    """How many tokens they lost by it."""
    turns_left_out: int = 0
    """Questions and answers they lost from their beginning."""
    answers_shortened: int = 0
    """Answers that lost the middle of their thought or their end (never the token that ends them)."""

    @property
    def dropped(self) -> str:
        """Why the row was left out, the same words for every row with this reason; nothing where it is kept."""
        return self.lost[0].reason if self.lost and not self.sequences else ""


@dataclass(frozen=True)
class _Policy:
    template: Template
    max_length: int
    overlong: Literal["drop", "cut"]
    masks: Masks


def masks_of(settings: DataSettings) -> Masks:
    """Return which tokens are trained, as the settings say it."""
    return Masks(settings.train_on, settings.reasoning)


def render_chunk(forms: Sequence[AnyForm], template: Template, settings: DataSettings) -> list[RenderedRow]:
    """Render some rows, in order and in one call of the tokenizer, by the policy of the settings."""
    policy = _Policy(template, settings.max_length, settings.overlong, masks_of(settings))
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
    policy: _Policy,
) -> None:
    """Add one part of a row to it."""
    if isinstance(sequences, RowError):
        row.refused = row.refused or sequences
        return
    if not sequences:
        row.lost.append(BadRow(part.place, NO_TOKEN if isinstance(part, Text) else NOTHING_TRAINED))
        return
    if isinstance(part, Text):
        kept = [piece for sequence in sequences for piece in _pieces(sequence, policy.max_length)]
    else:
        kept = _fitting(row, part, sequences, policy)
    row.sequences += kept
    row.parts += [name] * len(kept)


def _take_tokens(row: RenderedRow, one: Tokens, policy: _Policy) -> None:
    """Make a row's tokens its sequence: no template writes them, and the policy for long rows holds."""
    vocabulary = policy.template.vocabulary
    if max(one.ids) >= vocabulary:
        at = next(at for at, id in enumerate(one.ids) if id >= vocabulary)
        detail = f"number {at + 1} is {one.ids[at]}, the tokenizer has {vocabulary} tokens"
        row.refused = RowError("'input_ids' holds a number outside of the vocabulary", detail)
        return
    if not any(one.weights[1:]):
        row.lost.append(BadRow(one.place, NOTHING_TRAINED))
        return
    kept = _fitting_tokens(row, one, policy)
    row.sequences += kept
    row.parts += [""] * len(kept)


def _fitting_tokens(row: RenderedRow, one: Tokens, policy: _Policy) -> list[TokenSequence]:
    """Return the sequence, or the pieces of a text that is too long; of a longer answer nothing: nobody knows where its
    thought, its calls and its turns end."""
    whole = TokenSequence(one.ids, one.weights)
    if len(whole.ids) <= policy.max_length:
        return [whole]
    if policy.overlong == "cut" and all(whole.weights):
        return _pieces(whole, policy.max_length)
    reason = TOO_LONG if policy.overlong == "drop" else TOKENS_STAY
    row.lost_tokens = max(row.lost_tokens, len(whole.ids))
    row.lost.append(BadRow(one.place, reason.format(max_length=policy.max_length)))
    return []


def _whole(row: RenderedRow, count: int) -> RenderedRow:
    """Keep nothing of a row that has several parts and lost one, or one of which is refused: a preference needs
    both its answers."""
    if row.refused is not None or (count > 1 and row.lost):
        row.sequences, row.parts = [], []
    return row


def _pieces(sequence: TokenSequence, max_length: int) -> list[TokenSequence]:
    """Cut a text's tokens into as few pieces as fit, of nearly the same length."""
    total = len(sequence.ids)
    if total <= max_length:
        return [sequence]
    count = -(-total // max_length)
    ends = [total * number // count for number in range(count + 1)]
    return [
        replace(sequence, ids=sequence.ids[start:end], weights=sequence.weights[start:end])
        for start, end in pairwise(ends)
    ]


def _fitting(
    row: RenderedRow, one: Conversation, sequences: Sequence[TokenSequence], policy: _Policy
) -> list[TokenSequence]:
    """Return the sequences of one conversation that fit, as they are or cut."""
    if all(len(sequence.ids) <= policy.max_length for sequence in sequences):
        return list(sequences)
    kept = []
    for part, sequence in zip(_beginnings(one, len(sequences), policy), sequences, strict=True):
        if len(sequence.ids) <= policy.max_length:
            kept.append(sequence)
        elif policy.overlong == "drop":
            reason = TOO_LONG.format(max_length=policy.max_length)
            row.lost_tokens = max(row.lost_tokens, len(sequence.ids))
            row.lost.append(BadRow(one.place, reason, f"{len(sequence.ids)} tokens"))
        else:
            # A conversation that became one sequence trains every answer, one of several only its last.
            masks = policy.masks if len(sequences) == 1 else replace(policy.masks, train_on="last")
            kept += _shorten(row, part, sequence, replace(policy, masks=masks))
    return kept


def _beginnings(one: Conversation, count: int, policy: _Policy) -> list[Conversation]:
    """Return the conversation for each of its sequences: itself, or its beginning up to each trained answer."""
    if count == 1:
        return [one]
    answered = [
        index
        for index, message in enumerate(one.messages)
        if message.role == "assistant" and message.weight != 0
    ]
    return [replace(one, messages=one.messages[: index + 1]) for index in answered]


def _shorten(
    row: RenderedRow, one: Conversation, whole: TokenSequence, policy: _Policy
) -> list[TokenSequence]:
    """Cut a conversation to `max_length` tokens by the policy; nothing, and counted, where nothing to train
    would remain."""
    if policy.masks.reasoning == "drop":
        one = replace(one, messages=tuple(map(without_reasoning, one.messages)))
    system, exchanges = _exchanges(one.messages)

    def beginning_at(earliest: int) -> Conversation:
        kept = [message for exchange in exchanges[earliest:] for message in exchange]
        return replace(one, messages=(*system, *kept))

    def without(earliest: int) -> TokenSequence | None:
        return _last_sequence(beginning_at(earliest), policy)

    earliest, sequence = _latest_start(without, len(exchanges), policy.max_length)
    shortened = sequence is not None and len(sequence.ids) > policy.max_length
    reason = NO_ROOM
    if sequence is not None and shortened:
        sequence, reason = _with_shorter_answer(beginning_at(earliest), sequence, policy)
    if sequence is None:
        row.lost_tokens = max(row.lost_tokens, len(whole.ids))
        row.lost.append(BadRow(one.place, reason.format(max_length=policy.max_length)))
        return []
    row.cut += 1
    row.cut_tokens += len(whole.ids) - len(sequence.ids)
    row.answers_shortened += shortened
    row.turns_left_out += sum(len(exchange) for exchange in exchanges[:earliest])
    return [sequence]


def _latest_start(
    without: Callable[[int], TokenSequence | None], exchanges: int, max_length: int
) -> tuple[int, TokenSequence | None]:
    """Find how few of the earliest exchanges must go for the rest to fit, at the most all but the last."""

    def fits(earliest: int) -> bool:
        sequence = without(earliest)
        return sequence is None or len(sequence.ids) <= max_length

    earliest = bisect_left(range(exchanges - 1), True, key=fits)
    return earliest, without(earliest)


def _exchanges(messages: Sequence[Message]) -> tuple[Sequence[Message], list[list[Message]]]:
    """Split messages into the system message (or none) and exchanges, each from a question through its
    answers."""
    spoken = 1 if messages[0].role == "system" else 0
    exchanges: list[list[Message]] = []
    for message in messages[spoken:]:
        if message.role == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    return messages[:spoken], exchanges


def _last_sequence(one: Conversation, policy: _Policy) -> TokenSequence | None:
    """Return the sequence that trains the last answer; None where nothing of the conversation is trained."""
    rendered = policy.template.render(one, policy.masks)
    return rendered[-1] if rendered else None


def _with_shorter_answer(
    one: Conversation, sequence: TokenSequence, policy: _Policy
) -> tuple[TokenSequence | None, str]:
    """Return the sequence with as much of the last answer as fits; None, and why, where nothing does."""
    template, last = policy.template, one.messages[-1]
    asked = len(template.prompt(one.messages[:-1], one.tools).ids)
    answer = shortenable(last, template.control_tokens.tags)
    written = template.answers(one.messages, one.tools)[-1]
    if (
        not (answer.whole or answer.thought or last.extra)
        and template.without_end(written).strip() == last.content.strip()
    ):
        return _without_end(sequence, policy.max_length, asked), NO_ROOM

    def shorter(count: int) -> TokenSequence | None:
        return _last_sequence(replace(one, messages=(*one.messages[:-1], answer.without(count))), policy)

    def fits(count: int) -> bool:
        sequence = shorter(count)
        return sequence is not None and len(sequence.ids) <= policy.max_length

    count = bisect_left(range(answer.most + 1), True, key=fits)
    if count > answer.most:
        return None, NO_ROOM if asked + 2 > policy.max_length else NEVER_CUT
    return shorter(count), ""


def _without_end(sequence: TokenSequence, max_length: int, asked: int) -> TokenSequence | None:
    """Take tokens off the end of a sequence's last answer, before its last token, the one that ends it.

    `asked` is how many tokens stand before the answer. None where that would reach into the question, or leave no
    trained token but the one that ends the answer.
    """
    ids, weights = sequence.ids, sequence.weights
    last = len(weights) - 1
    answer_from = next((at + 1 for at in range(last, -1, -1) if not weights[at]), 0)
    kept = max_length - 1
    if kept <= max(answer_from, asked):
        return None
    return replace(sequence, ids=(*ids[:kept], ids[-1]), weights=(*weights[:kept], weights[-1]))
