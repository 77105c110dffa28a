"""Conversations written as one text: `Human: ... Assistant: ...`, as in HH-RLHF and BELLE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from ..conversation import Message

ANSWERING: Mapping[str, tuple[str, ...]] = {
    "Human": ("Assistant", "AI"),
    "User": ("Assistant", "AI", "Bot"),
    "USER": ("ASSISTANT",),
    "人类": ("助手", "AI"),
    "用户": ("助手", "AI", "机器人"),
}
"""The name of the asking side in a transcript -> possible names of the answering side."""
BEGINS = re.compile(rf"\s*({'|'.join(ANSWERING)})\s?[:：]")
HUMAN = re.compile(r"\s*Human:")


def is_transcript(text: str) -> bool:
    """Return whether a text is a conversation up to a question: it ends with an empty answer (`Assistant:`), or with a
    question after an answer.
    """
    if BEGINS.match(text) is None:
        return False
    said = _said(text)
    roles = [role for role, _ in said]
    return said[-1] == ("assistant", "") or (roles[-1] == "user" and "assistant" in roles)


def transcript(text: str) -> list[Message]:
    """Return the turns of a transcript (https://huggingface.co/datasets/Anthropic/hh-rlhf,
    https://huggingface.co/datasets/BelleGroup/multiturn_chat_0.8M); an empty last answer is left out.
    """
    said = _said(text)
    if said[-1] == ("assistant", ""):
        said.pop()
    return [Message("user" if role == "user" else "assistant", words) for role, words in said]


def _said(text: str) -> list[tuple[str, str]]:
    """Return (role, text) of each turn of a transcript; the text must begin with the asking side."""
    found = BEGINS.match(text)
    asking = found[1] if found else ""
    names = ANSWERING[asking]
    answers = sum(text.count(f"\n{name}:") for name in names)
    apart = text.startswith("\n\n") or answers == sum(text.count(f"\n\n{name}:") for name in names) > 0
    pieces = _speaker(asking, apart).split(text)[1:]
    return [
        ("user" if who == asking else "assistant", words.strip())
        for who, words in zip(pieces[::2], pieces[1::2], strict=True)
    ]


@cache
def _speaker(asking: str, apart: bool) -> re.Pattern[str]:
    """Return a pattern for the beginning of a turn.

    `apart` is whether an empty line separates turns; a single line break is then part of a turn.
    """
    names, lines = "|".join((asking, *ANSWERING[asking])), r"\n\n" if apart else r"\n"
    return re.compile(rf"(?:\A\s*|{lines})({names})\s?[:：] ?")
