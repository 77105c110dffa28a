"""Finds the special tokens that belong to answers: the chat template writes or looks for them in assistant turns.

Reasoning models write `<think>` and `</think>`, and tags around tool calls. Some tokenizers register these as special
tokens, like those that begin and end turns. The two kinds are told apart by what the template does, not by name:

- A token around the turns of other roles, or one that ends an answer, does not belong to answers. Inside a content it
  is encoded as plain text.
- Any other special token belongs to answers if the template writes it into some answers but not all (tool calls), or
  into all of them as an opening and closing pair (reasoning), or if it treats an answer with the token differently
  from one with other text in its place (templates that remove reasoning from earlier turns).
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
    """Finds the special tokens that belong to answers, for one template."""

    renderer: Renderer
    """Renders without tool definitions: a template's description of its tools may show the tags of a call."""
    with_tools: Renderer
    specials: frozenset[str]
    """The tokenizer's special tokens, without those that have a role (bos, eos, ...) or end an answer."""

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
        """Return the closing tokens of an opening token, or the opening token of a closing one."""
        opens = {token.replace("/", "", 1)} if "/" in token else set()
        closes = {one for one in self.specials if "/" in one and one.replace("/", "", 1) == token}
        return (opens & self.specials) | closes

    def _looks_for(self, token: str) -> bool:
        """Return whether the template treats a token in an answer differently from other text in the same place."""
        opening = next(iter(sorted(self._other_halves(token))), "") if "/" in token else ""
        content = f"{opening}\n{THOUGHT}\n{token}\n\n{ANSWER}"
        held, other = (_text(self.renderer.write, content, marked) for marked in ("", token))
        return bool(held and other) and held != other

    def _outside(self, halves: Collection[str]) -> set[str]:
        """Return the special tokens in the text around answers."""
        write = self.renderer.write
        texts = [_asked(write, probe) for probe in ((ASKS,), (Message("system", QUESTION), ASKS))]
        texts.append(_asked(write, (*PLAIN, ASKS)).rpartition(ANSWER)[2])
        called = (ASKS, _calls(1))
        before, after = _text_of(write, called), _asked(write, (*called, GIVEN))
        texts.append(after.removeprefix(before) if before and after.startswith(before) else "")
        # A prompt may end with an opening reasoning tag, or with an empty pair: these do belong to answers.
        opened = re.compile(rf"(?:\s|{'|'.join(map(re.escape, sorted(halves))) or '(?!)'})*\Z")
        return set().union(*(self._in(opened.sub("", text)) for text in texts))


def _answers(renderer: Renderer, messages: Sequence[Message]) -> Iterator[str]:
    """Yield the text that a template writes for each answer."""
    try:
        turns = renderer.turns(messages)
    except RowError:
        return
    for turn in turns:
        yield turn.text[turn.answer_from :]


def _text(write: Write, content: str, marked: str = "") -> str:
    """Render the same answer as an earlier turn and as the last turn.

    `marked` is replaced by a mark before rendering and restored after it, so the template never sees it.
    """
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
    """Return the special tokens in a template's source, and the other half of each opening and closing pair."""
    known = frozenset(specials)
    named = {token for token in known if token in source}
    bare = {token.replace("/", "", 1) for token in named}
    return frozenset(named | {token for token in known if token.replace("/", "", 1) in bare})
