"""Text in segments to token ids, so that the same segment gives the same ids in training and in serving.

Control tokens written inside content are encoded as plain text: before rendering each is replaced by a mark
(a private-use character found nowhere in the conversation), after rendering the mark is encoded as the
characters it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .conversation import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PRIVATE_USE = range(0xE000, 0xF900)
TAG = re.compile(r"<.+>|\[.+\]")
# A tokenizer that puts a blank before every text (Llama 2) is given one of these in front of a segment, and
# its ids are taken off again.
ANCHORS = ("", "\n", "\t", "0")
PROBES = ("weitiao", " weitiao", "微调", "\n", "1", "- weitiao")


@dataclass(frozen=True)
class Segment:
    """A stretch of rendered text that is encoded by itself."""

    text: str
    begins: bool = False
    """Whether it begins the text, where the tokenizer may put its begin token."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Mark -> the control token it stands for."""


class ControlTokens:
    """Which strings of content would become control tokens, by role."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        """Take the tokenizer's special tokens; for others than the assistant also added ones that look like a
        tag or stand in the chat template.

        Added tokens that are not special, such as <think>, are what reasoning models write themselves, so in
        an assistant's content they stay tokens; words added to a vocabulary stay tokens everywhere.
        """
        added = tokenizer.added_tokens_decoder.values()
        special = (
            {token.content for token in added if token.special}
            | set(tokenizer.all_special_tokens)
            | set(stops)
        )
        template = str(tokenizer.chat_template or "")
        names = {token.content for token in added if token.content.strip()}
        written = {name for name in names if name in template or TAG.fullmatch(name)}
        self._assistant = any_of(special)
        self._others = any_of(special | written)

    def mark(self, messages: Sequence[Message]) -> tuple[list[Message], dict[str, str]]:
        """Replace control tokens in content by marks; return the messages and mark -> control token."""
        if not any(self._of(message).search(message.content) for message in messages):
            return list(messages), {}
        free = _unused_marks("".join(message.content for message in messages))
        mark_of: dict[str, str] = {}

        def replaced(found: re.Match[str]) -> str:
            if found[0] not in mark_of:
                mark_of[found[0]] = next(free)
            return mark_of[found[0]]

        marked = [replace(m, content=self._of(m).sub(replaced, m.content)) for m in messages]
        return marked, {mark: token for token, mark in mark_of.items()}

    def _of(self, message: Message) -> re.Pattern[str]:
        return self._assistant if message.role == "assistant" else self._others


def any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of some strings, the longest that fits; of none it finds nothing."""
    longest_first = sorted((s for s in strings if s), key=lambda s: (-len(s), s))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _unused_marks(text: str) -> Iterator[str]:
    return (chr(code) for code in PRIVATE_USE if chr(code) not in text)


class Encoder:
    """Encodes segments, many at once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # One object per id instead of one per token keeps a data set's memory at a pointer a token.
        self._shared_ids = list(range(1 + max(tokenizer.get_vocab().values())))
        self._plain_text: dict[str, list[int]] = {}
        self._anchor = next((anchor for anchor in ANCHORS if self._is_transparent(anchor)), "")
        self._anchor_ids = self._raw([self._anchor])[0] if self._anchor else []
        self._begin_ids = self._begin()

    def encode(self, segments: Sequence[Segment]) -> list[list[int]]:
        """Return each segment's ids; a segment that begins the text has exactly one begin token if any is
        used."""
        pieces = [list(_pieces(segment)) for segment in segments]
        inner = [text for own in pieces for text, kind in own if kind == "inner"]
        first = [text for own in pieces for text, kind in own if kind == "first"]
        encoded = {"inner": iter(self._inner(inner)), "first": iter(self._raw(first))}
        return [self._joined(segment, own, encoded) for segment, own in zip(segments, pieces, strict=True)]

    def _joined(
        self, segment: Segment, pieces: list[tuple[str, str]], encoded: Mapping[str, Iterator[list[int]]]
    ) -> list[int]:
        """Join a segment's pieces, taking each kind's ids in the order in which they were encoded."""
        ids: list[int] = []
        for text, kind in pieces:
            ids += self._as_plain_text(text) if kind == "control" else next(encoded[kind])
        begin = self._begin_ids
        if segment.begins and begin and ids[: len(begin)] != begin:
            ids = begin + ids
        return list(map(self._shared_ids.__getitem__, ids))

    def _inner(self, texts: list[str]) -> list[list[int]]:
        """Encode texts as the continuation of others, without what the tokenizer puts before a text."""
        if not self._anchor:
            return self._raw(texts)
        taken_off = len(self._anchor_ids)
        encoded = self._raw([self._anchor + text for text in texts])
        return [
            ids[taken_off:] if ids[:taken_off] == self._anchor_ids else self._raw([text])[0]
            for ids, text in zip(encoded, texts, strict=True)
        ]

    def _as_plain_text(self, control: str) -> list[int]:
        """Encode a control token's characters as text; cut in two it can match no token, special or added."""
        if control not in self._plain_text:
            halves = self._inner([control[:1], control[1:]]) if len(control) > 1 else [self._split(control)]
            self._plain_text[control] = [i for half in halves for i in half]
        return self._plain_text[control]

    def _raw(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return list(encoded["input_ids"])

    def _split(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def _is_transparent(self, anchor: str) -> bool:
        """Whether texts behind an anchor get the ids they have within a longer text."""
        before = "\n" if anchor != "\n" else "x\n"
        ids = self._raw([anchor])[0] if anchor else []
        for probe in PROBES[:1] if not anchor else PROBES:
            behind = self._raw([anchor + probe])[0]
            whole, context = self._raw([before + probe, before])
            if behind[: len(ids)] != ids or whole != context + behind[len(ids) :]:
                return False
        return True

    def _begin(self) -> list[int]:
        """Return what the tokenizer puts before a text of its own accord (a begin token), or nothing."""
        plain = self._raw(["weitiao"])[0]
        full = list(self._tokenizer("weitiao")["input_ids"])
        starts = [k for k in range(len(full) - len(plain) + 1) if full[k : k + len(plain)] == plain]
        return full[: starts[0]] if starts else []


def _pieces(segment: Segment) -> Iterator[tuple[str, str]]:
    """Cut a segment at its marks into (text, kind): first, inner or control."""
    if not segment.marks:
        if segment.text:
            yield segment.text, "first" if segment.begins else "inner"
        return
    for number, piece in enumerate(re.split(f"([{''.join(segment.marks)}])", segment.text)):
        if piece in segment.marks:
            yield segment.marks[piece], "control"
        elif piece:
            yield piece, "first" if segment.begins and number == 0 else "inner"
