"""Conversations to examples, with the policy for rows that are longer than `max_length`.

`drop` leaves them out. `cut` leaves out the earliest exchanges (the system message stays), then shortens the
last answer from its end. A question, the assistant's header and the token that ends an answer are never cut;
what cannot be kept so is left out and counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .bad_rows import BadRow
from .conversation import Conversation, Example, Message
from .formats._base import RowError
from .summary import Counts
from .template import Template

BATCH_ROWS = 512


@dataclass
class Rendered:
    """Examples, and the conversations that gave at least one."""

    examples: list[Example] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    refused: list[BadRow] = field(default_factory=list)
    """Rows the template itself refuses."""


def render_all(
    conversations: Sequence[Conversation],
    template: Template,
    max_length: int,
    overlong: Literal["drop", "cut"],
    counts: Counts,
) -> Rendered:
    """Render conversations in order; what is left out or shortened is added to `counts`."""
    result = Rendered()
    for start in range(0, len(conversations), BATCH_ROWS):
        batch = conversations[start : start + BATCH_ROWS]
        for one, rendered in zip(batch, template.render_many(batch), strict=True):
            if isinstance(rendered, RowError):
                result.refused.append(BadRow(one.place, rendered.reason, rendered.detail))
                continue
            kept = list(_kept(one, rendered, template, max_length, overlong, counts))
            result.examples += kept
            if kept:
                result.conversations.append(one)
    return result


def _kept(
    one: Conversation,
    examples: Sequence[Example],
    template: Template,
    max_length: int,
    overlong: Literal["drop", "cut"],
    counts: Counts,
) -> Iterator[Example]:
    """Yield the examples of one conversation that fit, as they are or cut."""
    parts = _parts(one, len(examples))
    for part, example in zip(parts, examples, strict=True):
        if len(example.ids) <= max_length:
            yield example
        elif overlong == "drop":
            detail = f"{len(example.ids)} tokens"
            counts.dropped.append(
                BadRow(one.place, f"longer than {max_length} tokens (data.max_length)", detail)
            )
        else:
            # A conversation that became one example trains every answer, one of several only its last.
            render = template.render_last if len(examples) > 1 else _render_one(template)
            shortened = _shorten(part, render, max_length, counts)
            if shortened:
                yield shortened


def _parts(one: Conversation, count: int) -> list[Conversation]:
    """Return the conversation for each of its examples: itself, or its beginning up to each answer."""
    if count == 1:
        return [one]
    answered = [index for index, message in enumerate(one.messages) if message.role == "assistant"]
    return [replace(one, messages=one.messages[: index + 1]) for index in answered]


def _render_one(template: Template) -> Callable[[Conversation], Example]:
    return lambda conversation: template.render(conversation)[-1]


def _shorten(
    one: Conversation, render: Callable[[Conversation], Example], max_length: int, counts: Counts
) -> Example | None:
    """Cut a conversation to `max_length` tokens by the policy; None, and counted, where nothing to train
    would remain."""
    system, exchanges = _exchanges(one.messages)

    def without(earliest: int) -> Example:
        kept = [message for exchange in exchanges[earliest:] for message in exchange]
        return render(replace(one, messages=(*system, *kept)))

    last = len(exchanges) - 1
    earliest = bisect_left(range(last), True, key=lambda k: len(without(k).ids) <= max_length)
    example = without(earliest)
    if len(example.ids) > max_length:
        shortened = _shorten_answer(example, max_length)
        if shortened is None:
            counts.dropped.append(
                BadRow(one.place, f"the question leaves no room for an answer in {max_length} tokens")
            )
            return None
        example = shortened
        counts.answers_shortened += 1
    counts.cut += 1
    counts.turns_left_out += sum(len(exchange) for exchange in exchanges[:earliest])
    return example


def _exchanges(messages: Sequence[Message]) -> tuple[Sequence[Message], list[list[Message]]]:
    """Split messages into the system message (or none) and exchanges, each from a question through its
    answer."""
    spoken = 1 if messages[0].role == "system" else 0
    exchanges: list[list[Message]] = []
    for message in messages[spoken:]:
        if message.role == "user":
            exchanges.append([])
        exchanges[-1].append(message)
    return messages[:spoken], exchanges


def _shorten_answer(example: Example, max_length: int) -> Example | None:
    """Take tokens off the end of an example's only answer, before its last token, the one that ends it."""
    answer_from = next(index for index, weight in enumerate(example.weights) if weight > 0)
    kept = max_length - 1
    if kept <= answer_from:
        return None
    ids, weights = example.ids, example.weights
    return replace(example, ids=(*ids[:kept], ids[-1]), weights=(*weights[:kept], weights[-1]))
