"""Shortens answers that are too long: removes the middle of the reasoning, then the end of the text.

The structure of an answer stays whole: the tags around reasoning, tool calls and their JSON, the token that ends the
turn. So an answer with such a structure is shortened as text and rendered again, instead of losing tokens.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from ..conversation import Message
from .spans import REASONING

UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff"
PIECE = re.compile(rf"\s*(?:[{UNSPACED}]|[^\s{UNSPACED}]{{1,16}})")
"""A word of up to 16 characters (longer ones are split) with the whitespace before it, or one character of a script
without spaces."""
LEADING = re.compile(
    r"\A(?P<opening>\s*(?:<(\w+)>|\[(\w+)\])\s*)(?P<thought>.*?)(?P<closing>\s*(?:</\2>|\[/\3\]))", re.DOTALL
)
OPENED = re.compile(r"\A(?P<opening>\s*)(?P<thought>(?:(?!<think>).)*?)(?P<closing>\s*</think>)", re.DOTALL)
"""Reasoning whose opening tag is in the prompt."""
TAGGED = re.compile(r"<(\w+)>(.*?)</\1>|\[(\w+)\](.*?)\[/\3\]", re.DOTALL)
JSON_BEGINS = re.compile(r"(?:\A|(?<=[\s:\]>`]))[{\[]")
THINKS = re.compile("think|thought|reason|思考", re.IGNORECASE)
"""Names of tags around reasoning; text in other tags may be reasoning if an answer follows (see `_is_thought`)."""
MOST_TRIED = 20
LEAST_THOUGHT, LEAST_TEXT = 2, 1
"""Pieces that are kept: the first and last of the reasoning, the first of the text."""


@dataclass(frozen=True)
class Shortenable:
    """An answer split into reasoning and text, each in pieces that can be removed."""

    message: Message
    opening: str
    thought: tuple[str, ...]
    closing: str
    text: tuple[str, ...]
    """The text in pieces; a single piece if it may not be cut."""
    beside: str = ""
    """The key in `extra` that holds the reasoning; "" if it is part of the content."""
    whole: bool = False
    """Whether the text may not be cut."""

    @property
    def most(self) -> int:
        """How many pieces may be removed."""
        return self._of_thought + max(0, len(self.text) - LEAST_TEXT)

    @property
    def _of_thought(self) -> int:
        return max(0, len(self.thought) - LEAST_THOUGHT)

    def without(self, count: int) -> Message:
        """Return the answer with `count` pieces removed: first from the middle of the reasoning, then from the end."""
        inner = min(count, self._of_thought)
        thought = _without_middle(self.thought, inner)
        text = "".join(self.text[: len(self.text) - (count - inner)])
        if self.beside:
            return replace(self.message, content=text, extra={**self.message.extra, self.beside: thought})
        return replace(self.message, content=f"{self.opening}{thought}{self.closing}{text}")


def shortenable(message: Message, tags: re.Pattern[str]) -> Shortenable:
    """Split an answer into reasoning and text; `tags` finds the tokens that its model writes around tool calls."""
    content = message.content
    found = LEADING.match(content) or OPENED.match(content)
    if found is not None and not _is_thought(found, content[found.end() :], tags):
        found = None
    text = content[found.end() :] if found else content
    whole = bool(message.extra.get("tool_calls")) or has_structure(text, tags)
    said = (text,) if whole or not PIECE.search(text) else _pieces(text)
    beside = next((name for name in REASONING if isinstance(message.extra.get(name), str)), "")
    if found is not None:
        return Shortenable(
            message, found["opening"], _pieces(found["thought"]), found["closing"], said, "", whole
        )
    return Shortenable(message, "", _pieces(message.extra[beside]) if beside else (), "", said, beside, whole)


def _is_thought(found: re.Match[str], text: str, tags: re.Pattern[str]) -> bool:
    """Return whether the tagged text at the beginning of an answer is reasoning, not a tool call."""
    if THINKS.search(found["opening"] + found["closing"]):
        return True
    return (
        bool(text.strip()) and not tags.search(found["thought"]) and not has_structure(found["thought"], tags)
    )


def has_structure(text: str, tags: re.Pattern[str]) -> bool:
    """Return whether a text must not be cut: it has a call or reasoning in tags, or ends with JSON."""
    if tags.search(text):
        return True
    for found in TAGGED.finditer(text):
        if _is_json(found[2] or found[4] or "") or THINKS.search(found[1] or found[3]):
            return True
    ends = text.rstrip().removesuffix("```").rstrip()
    if not ends.endswith(("}", "]")):
        return False
    begins = [found.start() for found in JSON_BEGINS.finditer(ends)][:MOST_TRIED]
    return any(_is_json(ends[at:]) for at in begins)


def _is_json(text: str) -> bool:
    """Return whether a text is a JSON object or list."""
    if not text.strip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(found[0] for found in PIECE.finditer(text))


def _without_middle(pieces: tuple[str, ...], count: int) -> str:
    kept = len(pieces) - count
    head = -(-kept // 2)
    return "".join((*pieces[:head], *pieces[len(pieces) - (kept - head) :]))
