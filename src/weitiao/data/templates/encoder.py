"""Encodes rendered text segment by segment, so that a segment has the same token ids in training and in serving.

Control tokens that appear inside a content are encoded as plain text. Before rendering, each is replaced by a mark (a
private-use character that appears nowhere in the conversation); after rendering, the mark is encoded as the characters
of the control token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..conversation import Message
from .word_cache import WordCache, cuts_at_blanks

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

PRIVATE_USE = range(0xE000, 0xF900)
TAG = re.compile(r"<.+>|\[.+\]")
# Some tokenizers (Llama 2) put a space before every text. For them, one of these is prepended to a segment, and its
# ids are removed again.
ANCHORS = ("", "\n", "\t", "0")
PROBES = ("weitiao", " weitiao", "微调", "\n", "1", "- weitiao")


class Piece(NamedTuple):
    """A segment of rendered text that is encoded on its own."""

    text: str
    begins: bool = False
    """Whether it is the first segment of the text."""
    opens: bool = False
    """Whether the tokenizer's begin token is put before it, unless it already begins with it."""
    marks: Mapping[str, str] = MappingProxyType({})
    """Mark -> the control token it replaces."""
    follows_end: bool = False
    """Whether it follows an end token, after which some tokenizers (Zephyr's) insert a space."""


class ControlTokens:
    """Finds, by role, the strings in a content that the tokenizer would encode as control tokens."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], in_answers: Collection[str] = ()
    ) -> None:
        """Collect the tokenizer's special tokens; for roles other than the assistant, also added tokens that look like
        a tag or appear in the chat template.

        Reasoning models write added tokens that are not special, such as <think>, themselves. So in an assistant's
        content these stay tokens, as do the special tokens that belong to answers (see answer_tokens.py). Words added
        to the vocabulary stay tokens everywhere.
        """
        added = tokenizer.added_tokens_decoder.values()
        special = {*special_tokens(tokenizer), *stops}
        template = template_source(tokenizer)
        names = {token.content for token in added if token.content.strip()}
        written = {name for name in names if name in template or TAG.fullmatch(name)}
        self.tags = any_of({*in_answers, *(name for name in names - special if TAG.fullmatch(name))})
        """Finds the tokens that the model writes around reasoning, tool calls and the like."""
        self._assistant = any_of(special - {*in_answers})
        # For the other fields of an answer (tool calls, reasoning) the template itself writes the tokens around them.
        self._beside = any_of(special)
        self._others = any_of(special | written)
        self._template = template

    def mark(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[Message], list[Any], dict[str, str]]:
        """Replace the control tokens in messages and tools by marks; return messages, tools, and mark -> control
        token."""
        if not tools and not any(
            message.extra or self._of(message).search(message.content) for message in messages
        ):
            return list(messages), [], {}
        everything = [message.content for message in messages]
        everything += texts_in([*(message.extra for message in messages), *tools])
        free = _unused_marks("".join([self._template, *everything]))
        mark_of: dict[str, str] = {}

        def replaced(found: re.Match[str]) -> str:
            if found[0] not in mark_of:
                mark_of[found[0]] = next(free)
            return mark_of[found[0]]

        marked = []
        for message in messages:
            change = partial(self._of(message).sub, replaced)
            beside = self._beside if message.role == "assistant" else self._others
            extra = _each_text(message.extra, partial(beside.sub, replaced))
            marked.append(replace(message, content=change(message.content), extra=extra))
        described = [_each_text(tool, partial(self._others.sub, replaced)) for tool in tools]
        return marked, described, {mark: token for token, mark in mark_of.items()}

    def _of(self, message: Message) -> re.Pattern[str]:
        return self._assistant if message.role == "assistant" else self._others


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the texts of a tokenizer's special tokens."""
    added = tokenizer.added_tokens_decoder.values()
    return {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)


def template_source(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the source of a tokenizer's chat template; if it has several named ones, all their sources joined."""
    own = tokenizer.chat_template
    return "\n".join(map(str, own.values())) if isinstance(own, Mapping) else str(own or "")


def any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of some strings, the longest first; without strings it matches nothing."""
    longest_first = sorted((s for s in strings if s), key=lambda s: (-len(s), s))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def texts_in(value: Any) -> Iterator[str]:  # noqa: ANN401  (JSON)
    """Yield every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
        yield from texts_in([*value.values()])
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_in(one)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401  (JSON)
    """Return a JSON value with each text in it changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _each_text(one, change) for key, one in value.items()}
    return [_each_text(one, change) for one in value] if isinstance(value, list | tuple) else value


def _unused_marks(text: str) -> Iterator[str]:
    return (chr(code) for code in PRIVATE_USE if chr(code) not in text)


class Encoder:
    """Encodes segments in batches, equal ones only once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._backend = _backend_of(tokenizer)
        # Tokens with the same id share one int object, so a data set takes one pointer per token.
        self._shared_ids = list(range(1 + max(tokenizer.get_vocab().values())))
        self._plain_text: dict[str, tuple[int, ...]] = {}
        self._words: WordCache | None = None
        self._anchor = next((anchor for anchor in ANCHORS if self._is_transparent(anchor)), "")
        self._anchor_ids = self._raw([self._anchor])[0] if self._anchor else []
        self._begin_ids = tuple(begin_ids(tokenizer))
        self._end = str(tokenizer.eos_token or "") if self._anchor else ""
        if self._backend is not None and not self._anchor and cuts_at_blanks(self._backend):
            self._words = WordCache(self._raw_shared)

    @property
    def minds_ends(self) -> bool:
        """Whether the text after an end token may be encoded differently (see `Piece.follows_end`)."""
        return bool(self._end)

    def encode(self, segments: Sequence[Piece]) -> list[tuple[int, ...]]:
        """Return each segment's ids; one with `opens` has exactly one begin token, if the tokenizer uses one."""
        pieces = [list(_pieces(segment)) if segment.marks else None for segment in segments]
        kinds = [
            "first" if segment.begins else "after" if segment.follows_end else "inner" for segment in segments
        ]
        wanted: dict[str, set[str]] = {"inner": set(), "first": set(), "after": set(), "control": set()}
        for segment, kind, own in zip(segments, kinds, pieces, strict=True):
            if own is None:
                wanted[kind].add(segment.text)
                continue
            for text, piece_kind in own:
                wanted[piece_kind].add(text)
        ids_of = {
            kind: self._table(self._encoder_of(kind), wanted[kind]) for kind in ("inner", "first", "after")
        }
        return [
            self._joined(segment, kind, own, ids_of)
            for segment, kind, own in zip(segments, kinds, pieces, strict=True)
        ]

    def _table(
        self, encode: Callable[[list[str]], Sequence[Sequence[int]]], texts: set[str]
    ) -> dict[str, tuple[int, ...]]:
        listed = [*texts]
        return dict(zip(listed, map(tuple, encode(listed)), strict=True))

    def _joined(
        self,
        segment: Piece,
        kind: str,
        pieces: list[tuple[str, str]] | None,
        ids_of: Mapping[str, Mapping[str, tuple[int, ...]]],
    ) -> tuple[int, ...]:
        """Join the ids of a segment's pieces, with the begin token if the segment opens a text."""
        if pieces is None:
            ids = ids_of[kind][segment.text]
        else:
            ids = tuple(
                chain.from_iterable(
                    self._as_plain_text(text) if own == "control" else ids_of[own][text]
                    for text, own in pieces
                )
            )
        begin = self._begin_ids
        return begin + ids if segment.opens and begin and ids[: len(begin)] != begin else ids

    def last_characters(self, segment: Piece) -> list[int]:
        """Return for each id of a segment the index of its last character in the segment's text."""
        ends: list[int] = []
        at = 0
        for text, kind in _pieces(segment):
            if kind == "control":
                ends += [at] * len(self._as_plain_text(text))
                at += 1
                continue
            ends += [at + end for end in self._ends(text, kind)]
            at += len(text)
        return [0] * (len(self.encode([segment])[0]) - len(ends)) + ends

    def _ends(self, text: str, kind: str) -> list[int]:
        """Return the index of each token's last character, from the tokenizer's offsets."""
        anchor = {"inner": self._anchor, "after": self._end}.get(kind, "")
        if self._backend is None:
            return self._ends_by_prefix(text, kind)
        encoding = self._backend.encode(anchor + text, add_special_tokens=False)
        ends = [max(0, end - 1 - len(anchor)) for _, end in encoding.offsets]
        count = len(self._encoder_of(kind)([text])[0])
        return ends[len(ends) - count :]

    def _ends_by_prefix(self, text: str, kind: str) -> list[int]:
        """Like `_ends`, for a tokenizer without offsets: encodes every prefix of the text and counts its tokens."""
        encode = self._encoder_of(kind)
        lengths = [len(ids) for ids in encode([text[: n + 1] for n in range(len(text))])]
        count = lengths[-1] if lengths else 0
        return [next(n for n, length in enumerate(lengths) if length > k) for k in range(count)]

    def _encoder_of(self, kind: str) -> Callable[[list[str]], Sequence[Sequence[int]]]:
        return {"inner": self._inner, "after": self._after}.get(kind, self._firsts)

    def _after(self, texts: list[str]) -> Sequence[Sequence[int]]:
        """Encode texts that follow an end token."""
        if not self._end:
            return self._inner(texts)
        end = self._raw([self._end])[0]
        encoded = self._raw_shared([self._end + text for text in texts])
        return [ids[len(end) :] for ids in encoded]

    def _firsts(self, texts: list[str]) -> Sequence[Sequence[int]]:
        """Encode texts that come first."""
        return self._words.encode(texts) if self._words else self._raw_shared(texts)

    def _inner(self, texts: list[str]) -> Sequence[Sequence[int]]:
        """Encode texts as the continuation of others, without the space that the tokenizer puts before a text."""
        if not self._anchor:
            return self._firsts(texts)
        taken_off = len(self._anchor_ids)
        encoded = self._raw_shared([self._anchor + text for text in texts])
        # If a token spans the anchor and the text, the text is encoded alone.
        return [
            ids[taken_off:] if ids[:taken_off] == self._anchor_ids else self._raw([text])[0]
            for ids, text in zip(encoded, texts, strict=True)
        ]

    def _as_plain_text(self, control: str) -> tuple[int, ...]:
        """Encode a control token's characters as plain text; encoded in two halves, it is not found as a token."""
        if control not in self._plain_text:
            halves = self._inner([control[:1], control[1:]]) if len(control) > 1 else [self._split(control)]
            self._plain_text[control] = tuple(chain.from_iterable(halves))
        return self._plain_text[control]

    def _raw_shared(self, texts: list[str]) -> list[list[int]]:
        return [[*map(self._shared_ids.__getitem__, ids)] for ids in self._raw(texts)]

    def _raw(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        backend = self._backend
        # Other code may have set padding or truncation on this backend; a call through transformers resets them.
        if backend and not (backend.padding or backend.truncation or backend.encode_special_tokens):
            return [one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False)]
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
        """Return whether a text after an anchor has the same ids as inside a longer text."""
        before = "\n" if anchor != "\n" else "x\n"
        ids = self._raw([anchor])[0] if anchor else []
        for probe in PROBES[:1] if not anchor else PROBES:
            behind = self._raw([anchor + probe])[0]
            whole, context = self._raw([before + probe, before])
            if behind[: len(ids)] != ids or whole != context + behind[len(ids) :]:
                return False
        return True


def begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids (such as a begin token) that a tokenizer adds before a text by default; [] if it adds none."""
    plain = list(tokenizer("weitiao", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("weitiao")["input_ids"])
    starts = [k for k in range(len(full) - len(plain) + 1) if full[k : k + len(plain)] == plain]
    return full[: starts[0]] if starts else []


def begin_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text that encodes to `begin_ids`, "" if there is none."""
    ids = begin_ids(tokenizer)
    text = "".join(map(str, tokenizer.convert_ids_to_tokens(ids)))
    return text if list(tokenizer(text, add_special_tokens=False)["input_ids"]) == ids else ""


def _backend_of(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """Return the Rust tokenizer, or None for a Python tokenizer or one with `split_special_tokens`."""
    from transformers import PreTrainedTokenizerFast

    if isinstance(tokenizer, PreTrainedTokenizerFast) and not tokenizer.split_special_tokens:
        backend: Tokenizer = tokenizer.backend_tokenizer
        return backend
    return None


def _kind(segment: Piece) -> str:
    """Return how the start of a segment is encoded: as "first", "after" (an end token) or "inner"."""
    return "first" if segment.begins else "after" if segment.follows_end else "inner"


def _pieces(segment: Piece) -> Iterator[tuple[str, str]]:
    """Split a segment at its marks into (text, kind), with kind "first", "after", "inner" or "control"."""
    if not segment.marks:
        if segment.text:
            yield segment.text, _kind(segment)
        return
    for number, piece in enumerate(re.split(f"([{''.join(segment.marks)}])", segment.text)):
        if piece in segment.marks:
            yield segment.marks[piece], "control"
        elif piece:
            yield piece, "inner" if number else _kind(segment)
