"""Words with a tag each (named entities, parts of speech), or a text with labelled spans, which become BIO tags.

Spans are character offsets from 0, with an exclusive end. Text is split into words, but Chinese, Japanese and Korean
into characters. The first word of a span is tagged B-label, its other words I-label, words outside spans O
(https://aclanthology.org/W95-0107).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from ..conversation import Row
from ..forms import Tagged
from ._base import (
    Format,
    RowError,
    each_of,
    filled_text_in,
    first_of,
    kind_of,
    list_in,
    mostly,
    needed,
    shortened_value,
    text_of,
)

TOKENS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "labels", "pos_tags")
SPANS = ("spans", "entities")
CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af"
WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]")
"""One CJK character, one word of any other script, or one punctuation mark."""

Span = tuple[int, int, str]


class TaggedWords(Format):
    """One tag per token, or spans that begin and end at word boundaries."""

    form: ClassVar[str] = "tagged"
    columns: ClassVar[tuple[str, ...]] = (*TOKENS, *TAGS, "text", *SPANS)
    may_stay: ClassVar[tuple[str, ...]] = (*TAGS, "text")
    ways: ClassVar[tuple[frozenset[str], ...]] = (*each_of(TOKENS, TAGS), *each_of(("text",), SPANS))
    example: ClassVar[str] = '{"tokens": ["Marie", "Curie", "slept"], "tags": ["B-PER", "I-PER", "O"]}'

    def claims_rows(self, sample: Sequence[Row]) -> bool:
        """Return whether most rows hold a list of words or of spans; a list may be written as text."""
        return mostly(_fits(row.fields) for row in sample)

    def read(self, row: Row) -> Tagged:
        """Parse a row into words and tags; raises RowError."""
        fields = row.fields
        if "text" in fields and not first_of(TOKENS, fields):
            tokens, tags = _from_spans(filled_text_in(fields, "text"), _spans(fields))
        else:
            tokens, tags = _from_lists(fields)
        return Tagged(row.place, tokens=tokens, tags=tags)


def _fits(fields: Mapping[str, Any]) -> bool:
    tokens, spans = first_of(TOKENS, fields), first_of(SPANS, fields)
    try:
        found = list_in(fields, tokens or spans)
    except RowError:
        return False
    return all(isinstance(one, str) if tokens else isinstance(one, dict | list) for one in found)


def _from_lists(fields: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    words, named = needed(TOKENS, fields), needed(TAGS, fields)
    tokens, tags = list_in(fields, words), list_in(fields, named)
    if not tokens:
        raise RowError(f"{words!r} is an empty list")
    if len(tokens) != len(tags):
        raise RowError(f"{words!r} and {named!r} have different lengths", f"{len(tokens)} and {len(tags)}")
    wrong = [kind_of(token) for token in tokens if not isinstance(token, str)]
    wrong += [kind_of(tag) for tag in tags if isinstance(tag, bool) or not isinstance(tag, str | int)]
    if wrong:
        raise RowError(f"an item of {words!r} or {named!r} must be text, not {wrong[0]}")
    tagged = [str(tag) for tag in tags]
    text_of("".join([*tokens, *tagged]), f"an item of {words!r} or {named!r}")
    return tuple(tokens), tuple(tagged)


def _spans(fields: Mapping[str, Any]) -> list[Span]:
    """Return the spans sorted by position; raises RowError if they overlap or are invalid."""
    name = needed(SPANS, fields)
    spans = sorted(_span(one, name) for one in list_in(fields, name))
    for (_, end, _), (start, _, label) in pairwise(spans):
        if start < end:
            raise RowError(f"two items of {name!r} overlap", f"{label!r} begins at {start}")
    return spans


def _span(value: object, name: str) -> Span:
    """Return (start, end, label) of a span, {start, end, label} or [start, end, label]; raises RowError."""
    if isinstance(value, dict):
        label = value.get("label", value.get("type", value.get("entity_group")))
        value = [value.get("start"), value.get("end"), label]
    if isinstance(value, list) and len(value) == 3:
        start, end, label = value
        if type(start) is int and type(end) is int and isinstance(label, str) and label:
            return start, end, text_of(label, f"a label in {name!r}")
    raise RowError(f"an item of {name!r} lacks start, end or label", shortened_value(value))


def _from_spans(text: str, spans: Sequence[Span]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a text into words and tag them; raises RowError if a span does not consist of whole words."""
    words = list(WORD.finditer(text))
    starts, ends = ({at(word): n for n, word in enumerate(words)} for at in (re.Match.start, re.Match.end))
    tags = ["O"] * len(words)
    for start, end, label in spans:
        if not 0 <= start < end <= len(text):
            raise RowError("a span is outside its text", f"{start} to {end} of {len(text)} characters")
        inner = text[start:end]
        first = starts.get(start + len(inner) - len(inner.lstrip()))
        last = ends.get(end - len(inner) + len(inner.rstrip()))
        if first is None or last is None:
            raise RowError(
                "a span begins or ends inside a word", f"{shortened_value(inner)} begins at {start}"
            )
        tags[first : last + 1] = [f"B-{label}", *[f"I-{label}"] * (last - first)]
    return tuple(word[0] for word in words), tuple(tags)
