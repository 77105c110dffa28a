"""Shows a sample as it is trained: the text and weight of each token, and whether it was cut off, as plain data.

A token that is only part of a character (common in Chinese) is shown together with those that complete it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ...core.errors import DataError, Problem, nearest
from ..conversation import Conversation, Message
from ..example import TokenSequence
from ..forms import AnyForm, Text, Tokens, kind_of_form, parts
from ..gate.gate import Gate, kept_rows
from ..templates.render import render_chunk
from ..templates.rendered_row import RenderedRow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ..templates.template import Template

Fate = Literal["trained", "held_out", "untrained", "dropped", "bad"]

NO_LIMIT = 2**40
_PLACE = re.compile(r"(?P<file>.+?)(?::(?P<line>\d+))?(?:, row (?P<number>\d+))?", re.DOTALL)
LONGEST_CHARACTER = 8
"""Maximum tokens of one character: a longer run of tokens that is no character yet is not text."""
HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"
UNSAID: Mapping[str, object] = {"weight": 1.0, "task": "", "margin": 0.0, "reason": "", "labels": None}
SAID = (*UNSAID, "label", "scores", "correct", "multi", "tags")
"""Attributes of a form, besides its texts, that are shown; a value equal to that in UNSAID is not."""


@dataclass(frozen=True)
class Token:
    """One token, or the few that together make one character."""

    ids: tuple[int, ...]
    text: str
    weight: float = 0.0
    """Its loss weight: context has 0, trained tokens more."""
    control: bool = False
    """Whether it is a control token, not text."""
    cut: bool = False
    """Whether it is in the data but was cut off to fit `max_length`."""


@dataclass(frozen=True)
class Passage:
    """One sequence of a row."""

    part: str
    """The name of the row's part, such as chosen, rejected or choice 1; '' if the row has only one."""
    tokens: tuple[Token, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()
    """Role and text of each turn, if there is no tokenizer."""

    kept_tokens: int = 0
    """Tokens that are not cut off."""
    trained_tokens: int = 0
    """Kept tokens with a non-zero weight, without the first one, which nothing predicts."""
    hidden_tokens: int = 0
    """Tokens at the end that are not in `tokens` because there are too many."""


@dataclass(frozen=True)
class Sample:
    """One row, as it comes out of the gate."""

    row: int
    """Its number in the whole data, from 0."""
    place: str
    fate: Fate
    reason: str = ""
    """Why it is not used."""
    detail: str = ""
    """What the reason is in this row, often quoted from it."""
    form: str = ""
    """The kind of its form, such as conversation or preference."""
    details: tuple[tuple[str, str], ...] = ()
    """Its other attributes, such as label, scores and task, as (name, value)."""
    passages: tuple[Passage, ...] = ()


class Samples:
    """Looks up rows of a gate."""

    def __init__(
        self,
        gate: Gate,
        tokenizer: PreTrainedTokenizerBase | None,
        trained: Collection[str] | None = None,
    ) -> None:
        """Take the gate, its tokenizer, and the kinds of forms that are trained (None: all)."""
        self._gate, self._trained = gate, trained
        self._template = gate.template
        self._words = None if tokenizer is None else _Words(tokenizer, gate.template)

    def sample(self, row: int, most_tokens: int = NO_LIMIT) -> Sample:
        """Return a row by its number, from 0; raises DataError if there is no such row.

        Only the first `most_tokens` tokens of each passage are included.
        """
        store = self._gate.store
        self.known(row)
        form = store.form(row)
        if form is None:
            return Sample(row, *self._bad[row])
        place = store.place(row)
        reason = self._why_dropped.get(row, "")
        fate: Fate = "held_out" if self._gate.held_out[row] else "trained"
        if self._trained is not None and kind_of_form(form) not in self._trained:
            fate = "untrained"
        if reason:
            fate = "dropped"
        return Sample(
            row,
            place,
            fate,
            reason,
            form=kind_of_form(form),
            details=_details(form),
            passages=self._passages(row, form, most_tokens),
        )

    def known(self, row: int) -> int:
        """Return a row's number unchanged; raises DataError if there is no such row."""
        rows = self._gate.store.rows
        if not 0 <= row < rows:
            expected = f"0 to {rows - 1}" if rows else "the data has no rows"
            raise DataError(Problem("there is no row with this number", str(row), expected))
        return row

    def row_at(self, place: str) -> int:
        """Return the number of the row at a place such as FILE:LINE (the end of a path is enough); raises DataError."""
        store = self._gate.store
        file, line, on_line = _taken_apart(place)
        for number, (stands, *_) in self._bad.items():
            if stands == place or stands.endswith(f"/{place}"):
                return number
        named = [n for n, source in enumerate(store.sources) if source == file or source.endswith(f"/{file}")]
        at = np.isin(store.arrays["row_sources"], named) & (store.arrays["row_lines"] == line)
        if on_line:
            at &= store.arrays["row_numbers"] == on_line
        found = np.flatnonzero(at)
        if not len(found):
            raise DataError(self._no_row_at(place, named))
        return int(found[0])

    def spread(self, count: int) -> list[int]:
        """Return the numbers of at most `count` usable rows, evenly spread over the data."""
        usable = np.flatnonzero(kept_rows(self._gate.store, self._template is not None))
        chosen = np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int)
        return [int(row) for row in usable[chosen]]

    def typical(self) -> list[int]:
        """Return the number of one usable row, of median length, in a list; [] if no row is usable."""
        store = self._gate.store
        if len(store.lengths_E):
            order = np.argsort(store.lengths_E, kind="stable")
            return [int(store.arrays["example_rows"][order[len(order) // 2]])]
        return self.spread(1)

    @cached_property
    def _why_dropped(self) -> dict[int, str]:
        dropped = self._gate.tally.dropped
        return {row: reason for reason, hits in dropped.items() for row in hits["numbers"]}

    @cached_property
    def _bad(self) -> dict[int, tuple[str, Fate, str, str]]:
        """For each unusable row, by number: its place, its fate, the reason and its detail."""
        return {
            bad["number"]: (bad["place"], "bad", bad["reason"], bad["detail"]) for bad in self._gate.tally.bad
        }

    def _no_row_at(self, place: str, named: Sequence[int]) -> Problem:
        store = self._gate.store
        if named:
            own = np.flatnonzero(np.isin(store.arrays["row_sources"], named))
            return Problem("no row begins there", place, self._lines_of(own))
        unreadable = {stands for stands, *_ in self._bad.values()}
        files = [source for source in store.sources if source not in unreadable]
        near = nearest(place.rpartition(":")[0], files)
        remedy = " or ".join(f"{source}:1" for source in near)
        expected = f"one of {', '.join(files[:10])}" if files else "the data has no rows"
        return Problem("no row comes from this file", place, expected, remedy)

    def _lines_of(self, rows: NDArray[np.int64]) -> str:
        """Return in words where the rows of a file are: from line to line, or up to which row that shares a line."""
        lines, numbers = (self._gate.store.arrays[name][rows] for name in ("row_lines", "row_numbers"))
        if not numbers.any():
            return f"a line from {lines.min()} to {lines.max()}"
        last = int(rows[numbers == numbers.max()][-1])
        return f"a row up to {self._gate.store.place(last)}"

    def _passages(self, row: int, form: AnyForm, most: int) -> tuple[Passage, ...]:
        if self._template is None or self._words is None:
            return tuple(Passage(name, turns=_turns(part)) for name, part in parts(form))
        settings = self._gate.settings
        own = render_chunk([form], self._template, settings)[0]
        stored = self._stored(row)
        if own.cut or own.lost:
            unlimited = settings.model_copy(update={"max_length": NO_LIMIT})
            whole = render_chunk([form], self._template, unlimited)[0]
        else:
            whole = RenderedRow()
        return tuple(
            self._words.passage(name, sequence, cut, most)
            for name, sequence, cut in _beside(zip(own.parts, stored, strict=False), whole)
        )

    def _stored(self, row: int) -> list[TokenSequence]:
        """Return the row's sequences from the store, as they will be trained."""
        store = self._gate.store
        first, end = np.searchsorted(store.arrays["example_rows"], [row, row + 1])
        begun, ended = store.arrays["example_starts"][[first, end]]
        return [store.sequence(index) for index in range(int(begun), int(ended))]


def _beside(
    kept: Iterator[tuple[str, TokenSequence]], whole: RenderedRow
) -> Iterator[tuple[str, TokenSequence, NDArray[np.bool_]]]:
    """Yield (part, sequence, which of its tokens are cut off); tokens that were cut off are put back in their place."""
    by_part: dict[str, list[TokenSequence]] = {}
    for name, sequence in kept:
        by_part.setdefault(name, []).append(sequence)
    whole_by_part: dict[str, list[TokenSequence]] = {}
    for name, sequence in zip(whole.parts, whole.sequences, strict=True):
        whole_by_part.setdefault(name, []).append(sequence)
    for name in dict.fromkeys([*by_part, *whole_by_part]):
        own, full = by_part.get(name, []), whole_by_part.get(name, [])
        if own and len(own) != len(full):
            yield from ((name, sequence, np.zeros(len(sequence.ids), dtype=bool)) for sequence in own)
        elif own:
            yield from ((name, *put_back(one, other)) for one, other in zip(own, full, strict=True))
        else:
            yield from ((name, sequence, np.ones(len(sequence.ids), dtype=bool)) for sequence in full)


def put_back(kept: TokenSequence, whole: TokenSequence) -> tuple[TokenSequence, NDArray[np.bool_]]:
    """Return the whole sequence, with weight 0 for tokens missing in `kept`, and a mask of these tokens (its length).

    Expects that `kept` is a beginning, a middle and an end of `whole`; otherwise returns `kept` itself.
    """
    own, full = np.array(kept.ids, dtype=np.int64), np.array(whole.ids, dtype=np.int64)
    limit = min(len(own), len(full))
    head = _common(own[:limit], full[:limit])
    tail = _common(own[head:][::-1], full[head:][::-1])
    middle, room = own[head : len(own) - tail], full[head : len(full) - tail]
    at = _find(room, middle)
    if at < 0:
        return kept, np.zeros(len(own), dtype=bool)
    lost = np.ones(len(full), dtype=bool)
    for start, length in ((0, head), (head + at, len(middle)), (len(full) - tail, tail)):
        lost[start : start + length] = False
    weights = np.zeros(len(full))
    weights[~lost] = kept.weights
    return replace(kept, ids=whole.ids, weights=tuple(weights.tolist())), lost


def _common(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """Return the length of the common prefix of two arrays."""
    limit = min(len(one), len(other))
    different = np.flatnonzero(one[:limit] != other[:limit])
    return int(different[0]) if len(different) else limit


def _find(room: NDArray[np.int64], middle: NDArray[np.int64]) -> int:
    """Return the index of the first occurrence of `middle` in `room`, -1 if there is none."""
    if len(middle) > len(room):
        return -1
    if not len(middle):
        return 0
    windows = np.lib.stride_tricks.sliding_window_view(room, len(middle))
    starts = np.flatnonzero(room[: len(windows)] == middle[0])
    return next((int(start) for start in starts if np.array_equal(windows[start], middle)), -1)


class _Words:
    """Decodes ids into the text of each token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template | None) -> None:
        self._tokenizer = tokenizer
        marked = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._control = {*marked, *tokenizer.all_special_ids, *(template.stop_ids if template else ())}

    def passage(self, part: str, sequence: TokenSequence, cut: NDArray[np.bool_], most: int) -> Passage:
        """Return a passage with the first `most` tokens of a sequence, and counts of all its tokens."""
        begun = replace(sequence, ids=sequence.ids[:most], weights=sequence.weights[:most])
        return Passage(
            part,
            self.tokens(begun, cut[:most]),
            kept_tokens=int((~cut).sum()),
            trained_tokens=int(((np.array(sequence.weights) > 0) & ~cut)[1:].sum()),
            hidden_tokens=len(sequence.ids) - len(begun.ids),
        )

    def tokens(self, sequence: TokenSequence, cut: NDArray[np.bool_]) -> tuple[Token, ...]:
        """Return a sequence's tokens; those that make one character together are joined."""
        states = list(zip(sequence.weights, cut.tolist(), strict=True))
        made: list[Token] = []
        before: tuple[int, ...] = ()
        start = 0
        for end in range(1, len(sequence.ids) + 1):
            ids = sequence.ids[start:end]
            control = ids[-1] in self._control
            following = sequence.ids[end : end + 1]
            same = bool(following) and states[end] == states[start] and following[0] not in self._control
            text = self._name(ids[-1]) if control else self._text(before, ids)
            if text.endswith(HALF_CHARACTER) and same and not control and len(ids) < LONGEST_CHARACTER:
                continue
            made.append(Token(ids, text, states[start][0], control, states[start][1]))
            start, before = end, ids
        return tuple(made)

    def _text(self, before: tuple[int, ...], ids: tuple[int, ...]) -> str:
        """Return the text of tokens, decoded after `before`: some tokenizers drop the space of a first word."""
        lead, whole = self._decoded(before), self._decoded(before + ids)
        return whole.removeprefix(lead) if lead and whole.startswith(lead) else self._decoded(ids)

    def _name(self, id: int) -> str:
        return str(self._tokenizer.convert_ids_to_tokens(id))

    def _decoded(self, ids: tuple[int, ...]) -> str:
        decoded = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return cast(str, decoded)


def _details(form: AnyForm) -> tuple[tuple[str, str], ...]:
    """Return a form's attributes besides its texts, as (name, value)."""
    said = {name: value for name, value in vars(form).items() if name in SAID and value != UNSAID.get(name)}
    return tuple((name, _plain(value)) for name, value in said.items() if value != ())


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _turns(part: Conversation | Text | Tokens) -> tuple[tuple[str, str], ...]:
    if isinstance(part, Text):
        return (("", part.text),)
    if isinstance(part, Tokens):
        return ()
    return tuple((message.role, "\n".join(_said_in(message))) for message in part.messages)


def _said_in(message: Message) -> Iterator[str]:
    """Yield a message's content and its extra fields, such as tool calls, as text."""
    if message.content:
        yield message.content
    for name, value in message.extra.items():
        yield f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def _taken_apart(place: str) -> tuple[str, int, int]:
    """Split what `place_of` writes into file, line and number on the line; raises DataError for any other text."""
    found = _PLACE.fullmatch(place)
    if found is None or not (found["line"] or found["number"]):
        raise DataError(Problem("a row is named by file and line", place, "my.json:12, or my.json, row 12"))
    return found["file"], int(found["line"] or 1), int(found["number"] or 0)
