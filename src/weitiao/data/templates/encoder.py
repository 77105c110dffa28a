"""Text in segments to token ids, so that the same segment gives the same ids in training and in serving.

Control tokens written inside content are encoded as plain text: before rendering each is replaced by a mark
(a private-use character found nowhere in the conversation), after rendering the mark is encoded as the
characters it stands for.
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
# A tokenizer that puts a blank before every text (Llama 2) is given one of these in front of a segment, and
# its ids are taken off again.
ANCHORS = ("", "\n", "\t", "0")
PROBES = ("weitiao", " weitiao", "微调", "\n", "1", "- weitiao")


class Piece(NamedTuple):
    """A stretch of rendered text that is encoded by itself."""

    text: str
    begins: bool = False
    """Whether it begins the text."""
    opens: bool = False
    """Whether it gets the begin token that the tokenizer puts before a text, where it has none yet."""
    marks: Mapping[str, str] = MappingProxyType({})
    """Mark -> the control token it stands for."""
    follows_end: bool = False
    """Whether an end token stands before it, behind which some tokenizers (Zephyr's) put a blank."""


class ControlTokens:
    """Which strings of content would become control tokens, by role."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], in_answers: Collection[str] = ()
    ) -> None:
        """Take the tokenizer's special tokens; for others than the assistant also added ones that look like a
        tag or stand in the chat template.

        Added tokens that are not special, such as <think>, are what reasoning models write themselves, so in
        an assistant's content they stay tokens, as do the special ones that belong to answers (see
        answer_tokens.py); words added to a vocabulary stay tokens everywhere.
        """
        added = tokenizer.added_tokens_decoder.values()
        special = {*special_tokens(tokenizer), *stops}
        template = template_source(tokenizer)
        names = {token.content for token in added if token.content.strip()}
        written = {name for name in names if name in template or TAG.fullmatch(name)}
        self.tags = any_of({*in_answers, *(name for name in names - special if TAG.fullmatch(name))})
        """Finds the tokens that its model writes around thoughts, calls and the like."""
        self._assistant = any_of(special - {*in_answers})
        # Beside an answer's text, in a call's arguments, the template writes such tokens itself.
        self._beside = any_of(special)
        self._others = any_of(special | written)
        self._template = template

    def mark(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[Message], list[Any], dict[str, str]]:
        """Replace control tokens in all that a person wrote by marks; return messages, tools, and mark -> control
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
    """Return the source of a tokenizer's chat template, of all of them where they have names."""
    own = tokenizer.chat_template
    return "\n".join(map(str, own.values())) if isinstance(own, Mapping) else str(own or "")


def any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of some strings, the longest that fits; of none it finds nothing."""
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
    """Encodes segments, many at once, equal ones once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._backend = _backend_of(tokenizer)
        # One object per id instead of one per token keeps a data set's memory at a pointer a token.
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
        """Whether a text behind an end token is encoded otherwise than within others (see `Segment.follows_end`)."""
        return bool(self._end)

    def encode(self, segments: Sequence[Piece]) -> list[tuple[int, ...]]:
        """Return each segment's ids; one that opens a text has exactly one begin token, where the tokenizer
        uses any."""
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
        """Join a segment's pieces."""
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
        """Return for each id of a segment the index in its text of the last character it stands for."""
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
        """Return the last character of each token, by the tokenizer's own offsets."""
        anchor = {"inner": self._anchor, "after": self._end}.get(kind, "")
        if self._backend is None:
            return self._ends_by_prefix(text, kind)
        encoding = self._backend.encode(anchor + text, add_special_tokens=False)
        ends = [max(0, end - 1 - len(anchor)) for _, end in encoding.offsets]
        count = len(self._encoder_of(kind)([text])[0])
        return ends[len(ends) - count :]

    def _ends_by_prefix(self, text: str, kind: str) -> list[int]:
        """The same for a tokenizer without offsets: a token stands where the text that precedes it is encoded."""
        encode = self._encoder_of(kind)
        lengths = [len(ids) for ids in encode([text[: n + 1] for n in range(len(text))])]
        count = lengths[-1] if lengths else 0
        return [next(n for n, length in enumerate(lengths) if length > k) for k in range(count)]

    def _encoder_of(self, kind: str) -> Callable[[list[str]], Sequence[Sequence[int]]]:
        return {"inner": self._inner, "after": self._after}.get(kind, self._firsts)

    def _after(self, texts: list[str]) -> Sequence[Sequence[int]]:
        """Encode texts that stand behind an end token."""
        if not self._end:
            return self._inner(texts)
        end = self._raw([self._end])[0]
        encoded = self._raw_shared([self._end + text for text in texts])
        return [ids[len(end) :] for ids in encoded]

    def _firsts(self, texts: list[str]) -> Sequence[Sequence[int]]:
        """Encode texts that begin a text."""
        return self._words.encode(texts) if self._words else self._raw_shared(texts)

    def _inner(self, texts: list[str]) -> Sequence[Sequence[int]]:
        """Encode texts as the continuation of others, without what the tokenizer puts before a text."""
        if not self._anchor:
            return self._firsts(texts)
        taken_off = len(self._anchor_ids)
        encoded = self._raw_shared([self._anchor + text for text in texts])
        return [
            ids[taken_off:] if ids[:taken_off] == self._anchor_ids else self._raw([text])[0]
            for ids, text in zip(encoded, texts, strict=True)
        ]

    def _as_plain_text(self, control: str) -> tuple[int, ...]:
        """Encode a control token's characters as text; cut in two it can match no token, special or added."""
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
        # What others set on the same tokenizer, transformers sets back at the next call of it.
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
        """Whether texts behind an anchor get the ids they have within a longer text."""
        before = "\n" if anchor != "\n" else "x\n"
        ids = self._raw([anchor])[0] if anchor else []
        for probe in PROBES[:1] if not anchor else PROBES:
            behind = self._raw([anchor + probe])[0]
            whole, context = self._raw([before + probe, before])
            if behind[: len(ids)] != ids or whole != context + behind[len(ids) :]:
                return False
        return True


def begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return what a tokenizer puts before a text of its own accord (a begin token), or nothing."""
    plain = list(tokenizer("weitiao", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("weitiao")["input_ids"])
    starts = [k for k in range(len(full) - len(plain) + 1) if full[k : k + len(plain)] == plain]
    return full[: starts[0]] if starts else []


def begin_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text that stands for `begin_ids`, nothing where no text does."""
    ids = begin_ids(tokenizer)
    text = "".join(map(str, tokenizer.convert_ids_to_tokens(ids)))
    return text if list(tokenizer(text, add_special_tokens=False)["input_ids"]) == ids else ""


def _backend_of(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """Return what encodes in Rust, or None for a tokenizer written in Python or set to encode otherwise."""
    from transformers import PreTrainedTokenizerFast

    if isinstance(tokenizer, PreTrainedTokenizerFast) and not tokenizer.split_special_tokens:
        backend: Tokenizer = tokenizer.backend_tokenizer
        return backend
    return None


def _kind(segment: Piece) -> str:
    """Return how the beginning of a segment is encoded."""
    return "first" if segment.begins else "after" if segment.follows_end else "inner"


def _pieces(segment: Piece) -> Iterator[tuple[str, str]]:
    """Cut a segment at its marks into (text, kind): first, inner or control."""
    if not segment.marks:
        if segment.text:
            yield segment.text, _kind(segment)
        return
    for number, piece in enumerate(re.split(f"([{''.join(segment.marks)}])", segment.text)):
        if piece in segment.marks:
            yield segment.marks[piece], "control"
        elif piece:
            yield piece, "inner" if number else _kind(segment)
