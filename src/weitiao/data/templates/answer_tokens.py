"""Which special tokens belong to answers: the template itself writes them for the assistant, or looks for them there.

Reasoning models write `<think>` and `</think>`, and tags around calls; some tokenizers have them as special tokens, as
they have those that begin and end turns. Which is which follows from what the template does, not from names:

- a token that begins, ends or surrounds what others say stays out of contents, as do the tokens that end an answer;
- of the others, those belong to answers that the template writes into some answers but not into every one (calls), or
  into all of them as a pair that opens and closes (thoughts), or that it treats otherwise than text when an answer
  holds them (a thought that it takes out of earlier turns).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..conversation import Message
from ..formats._base import RowError
from .spans import Renderer, Write

QUESTION, ANSWER, THOUGHT, RESULT = "weitiaoquestion", "weitiaoanswer", "weitiaothought", "weitiaoresult"
CALL_ID = "weitiaoA1"
MARK = "\ue000"
ASKS = Message("user", QUESTION)
PLAIN = (ASKS, Message("assistant", ANSWER))


def _calls(number: int, **extra: Any) -> Message:  # noqa: ANN401  (what templates read)
    call = {"type": "function", "function": {"name": "weitiaocall", "arguments": {"weitiao": "a"}}}
    calls = [{**call, "id": f"weitiaoA{own}"} for own in range(1, 1 + number)]
    return Message("assistant", "", extra={"tool_calls": calls, **extra})


GIVEN = Message("tool", RESULT, extra={"tool_call_id": CALL_ID, "name": "weitiaocall"})
THINKS = {"reasoning_content": THOUGHT}
PROBES: tuple[tuple[Message, ...], ...] = (
    (*PLAIN, *PLAIN),
    (ASKS, Message("assistant", ANSWER, extra=THINKS)),
    (ASKS, _calls(1), GIVEN, Message("assistant", ANSWER)),
    (ASKS, _calls(2)),
    (ASKS, _calls(1, **THINKS)),
)


@dataclass(frozen=True)
class AnswerTokens:
    """Finds them for one template."""

    renderer: Renderer
    """Writes without functions, whose description may show the tags of a call."""
    with_tools: Renderer
    specials: frozenset[str]
    """The tokenizer's special tokens, without those with a role of their own, and without those that end an answer."""

    def found(self) -> frozenset[str]:
        """Return the special tokens that belong to answers."""
        plain = list(_answers(self.renderer, PROBES[0]))
        others = [text for probe in PROBES[1:] for text in _answers(self.renderer, probe)]
        others += [text for probe in PROBES for text in _answers(self.with_tools, probe)]
        always = set.intersection(*map(self._in, plain)) if plain else set()
        written = set().union(*map(self._in, [*plain, *others]))
        looked_for = {token for token in self.specials if self._looks_for(token)}
        paired = {token for token in written | looked_for if self._other_halves(token)}
        halves = {half for token in paired for half in self._other_halves(token)}
        belongs = (written - always) | looked_for | paired | halves
        return frozenset(belongs - self._outside(paired | halves))

    def _in(self, text: str) -> set[str]:
        return {token for token in self.specials if token in text}

    def _other_halves(self, token: str) -> set[str]:
        """Return what closes an opening token, or opens a closing one."""
        opens = {token.replace("/", "", 1)} if "/" in token else set()
        closes = {one for one in self.specials if "/" in one and one.replace("/", "", 1) == token}
        return (opens & self.specials) | closes

    def _looks_for(self, token: str) -> bool:
        """Whether the template writes an answer that holds a token otherwise than one that holds other text there."""
        opening = next(iter(sorted(self._other_halves(token))), "") if "/" in token else ""
        content = f"{opening}\n{THOUGHT}\n{token}\n\n{ANSWER}"
        held, other = (_text(self.renderer.write, content, marked) for marked in ("", token))
        return bool(held and other) and held != other

    def _outside(self, halves: Collection[str]) -> set[str]:
        """Return the special tokens that stand in what surrounds answers."""
        write = self.renderer.write
        texts = [_asked(write, probe) for probe in ((ASKS,), (Message("system", QUESTION), ASKS))]
        texts.append(_asked(write, (*PLAIN, ASKS)).rpartition(ANSWER)[2])
        called = (ASKS, _calls(1))
        before, after = _text_of(write, called), _asked(write, (*called, GIVEN))
        texts.append(after.removeprefix(before) if before and after.startswith(before) else "")
        # A prompt may open the thought of the answer, or leave it empty.
        opened = re.compile(rf"(?:\s|{'|'.join(map(re.escape, sorted(halves))) or '(?!)'})*\Z")
        return set().union(*(self._in(opened.sub("", text)) for text in texts))


def _answers(renderer: Renderer, messages: Sequence[Message]) -> Iterator[str]:
    """Yield what a template writes of each answer."""
    try:
        turns = renderer.turns(messages)
    except RowError:
        return
    for turn in turns:
        yield turn.text[turn.answer_from :]


def _text(write: Write, content: str, marked: str = "") -> str:
    """Return the text of an answer in both places it can stand in; `marked` is put there behind the template's back."""
    given = content.replace(marked, MARK) if marked else content
    answer = Message("assistant", given)
    text = _text_of(write, (ASKS, answer, ASKS, answer))
    return text.replace(MARK, marked) if marked else text


def _text_of(write: Write, messages: Sequence[Message]) -> str:
    try:
        return write(messages, False)
    except RowError:
        return ""


def _asked(write: Write, messages: Sequence[Message]) -> str:
    try:
        return write(messages, True)
    except RowError:
        return ""


def candidates(specials: Iterable[str], source: str) -> frozenset[str]:
    """Return the special tokens that stand in a template's source, and the other halves of those that do."""
    known = frozenset(specials)
    named = {token for token in known if token in source}
    bare = {token.replace("/", "", 1) for token in named}
    return frozenset(named | {token for token in known if token.replace("/", "", 1) in bare})
