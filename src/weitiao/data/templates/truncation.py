"""How a row that is too long is cut: the policy for rows of more than `data.max_length` tokens.

`data.overlong: drop` leaves such rows out. `cut` removes the earliest exchanges (the system message stays), then the
middle of the last answer's reasoning, then the end of that answer (`shorten_answer.py` takes an answer apart).
Questions, the assistant's header, the tags around reasoning, tool calls and the token that ends an answer are never
cut; a row that is still too long is left out and counted. Plain text is split into pieces, and loses nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from ..bad_rows import BadRow
from ..conversation import Conversation, Message
from ..example import TokenSequence
from ..forms import Tokens
from .rendered_row import RenderedRow
from .shorten_answer import shortenable
from .spans import Masks, without_reasoning

if TYPE_CHECKING:
    from .template import Template

TOO_LONG = "longer than {max_length} tokens (data.max_length)"
NO_ROOM = "the question leaves no room for an answer in {max_length} tokens"
NEVER_CUT = (
    "longer than {max_length} tokens, and no part of its answer may be cut (tool calls and JSON stay whole)"
)
TOKENS_STAY = "longer than {max_length} tokens, and answers given as tokens (input_ids) are not cut"


@dataclass(frozen=True)
class LengthPolicy:
    """How long a row may be, what becomes of a longer one, and how it is rendered."""

    template: Template
    max_length: int
    overlong: Literal["drop", "cut"]
    masks: Masks


def text_pieces(sequence: TokenSequence, max_length: int) -> list[TokenSequence]:
    """Split a text's tokens into the fewest pieces of at most `max_length`, of nearly equal length."""
    total = len(sequence.ids)
    if total <= max_length:
        return [sequence]
    count = -(-total // max_length)
    ends = [total * number // count for number in range(count + 1)]
    return [
        replace(sequence, ids=sequence.ids[start:end], weights=sequence.weights[start:end])
        for start, end in pairwise(ends)
    ]


def fit_tokens(row: RenderedRow, one: Tokens, policy: LengthPolicy) -> list[TokenSequence]:
    """Return the sequence, or pieces of it if it is a text that is too long.

    A longer sequence with an answer is left out: the ends of its reasoning, calls and turns are unknown.
    """
    whole = TokenSequence(one.ids, one.weights)
    if len(whole.ids) <= policy.max_length:
        return [whole]
    if policy.overlong == "cut" and all(whole.weights):
        return text_pieces(whole, policy.max_length)
    reason = TOO_LONG if policy.overlong == "drop" else TOKENS_STAY
    row.lost_tokens = max(row.lost_tokens, len(whole.ids))
    row.lost.append(BadRow(one.place, reason.format(max_length=policy.max_length)))
    return []


def fit_conversation(
    row: RenderedRow, one: Conversation, sequences: Sequence[TokenSequence], policy: LengthPolicy
) -> list[TokenSequence]:
    """Return the sequences of one conversation that fit, unchanged or cut."""
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
            # If a conversation gives one sequence, it trains every answer; if several, each trains only its last.
            masks = policy.masks if len(sequences) == 1 else replace(policy.masks, train_on="last")
            kept += _shorten(row, part, sequence, replace(policy, masks=masks))
    return kept


def _beginnings(one: Conversation, count: int, policy: LengthPolicy) -> list[Conversation]:
    """Return for each sequence its conversation: the whole one, or its beginning up to the trained answer."""
    if count == 1:
        return [one]
    answered = [
        index
        for index, message in enumerate(one.messages)
        if message.role == "assistant" and message.weight != 0
    ]
    return [replace(one, messages=one.messages[: index + 1]) for index in answered]


def _shorten(
    row: RenderedRow, one: Conversation, whole: TokenSequence, policy: LengthPolicy
) -> list[TokenSequence]:
    """Cut a conversation to `max_length` tokens; return [], and count the row as lost, if nothing to train would
    remain."""
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
    """Return the smallest number of earliest exchanges to remove so that the rest fits (at most all but the last),
    and the sequence of the rest."""

    def fits(earliest: int) -> bool:
        sequence = without(earliest)
        return sequence is None or len(sequence.ids) <= max_length

    earliest = bisect_left(range(exchanges - 1), True, key=fits)
    return earliest, without(earliest)


def _exchanges(messages: Sequence[Message]) -> tuple[Sequence[Message], list[list[Message]]]:
    """Split messages into the system message (or none) and exchanges: a question and all messages up to the next."""
    spoken = 1 if messages[0].role == "system" else 0
    exchanges: list[list[Message]] = []
    for message in messages[spoken:]:
        if message.role == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    return messages[:spoken], exchanges


def _last_sequence(one: Conversation, policy: LengthPolicy) -> TokenSequence | None:
    """Return the sequence that trains the last answer; None if nothing of the conversation is trained."""
    rendered = policy.template.render(one, policy.masks)
    return rendered[-1] if rendered else None


def _with_shorter_answer(
    one: Conversation, sequence: TokenSequence, policy: LengthPolicy
) -> tuple[TokenSequence | None, str]:
    """Return the sequence with as much of the last answer as fits; None and the reason if nothing does."""
    template, last = policy.template, one.messages[-1]
    asked = len(template.prompt(one.messages[:-1], one.tools).ids)
    answer = shortenable(last, template.control_tokens.tags)
    written = template.answers(one.messages, one.tools)[-1]
    # A plain answer that the template renders unchanged can be cut token by token.
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
        # An answer needs at least one token and the token that ends it.
        return None, NO_ROOM if asked + 2 > policy.max_length else NEVER_CUT
    return shorter(count), ""


def _without_end(sequence: TokenSequence, max_length: int, asked: int) -> TokenSequence | None:
    """Remove tokens from the end of a sequence's last answer, but keep the last token, which ends the answer.

    `asked` is the number of tokens before the answer. Returns None if the cut would reach into the question, or leave
    no trained token except the one that ends the answer.
    """
    ids, weights = sequence.ids, sequence.weights
    last = len(weights) - 1
    answer_from = next((at + 1 for at in range(last, -1, -1) if not weights[at]), 0)
    kept = max_length - 1
    if kept <= max(answer_from, asked):
        return None
    return replace(sequence, ids=(*ids[:kept], ids[-1]), weights=(*weights[:kept], weights[-1]))
