"""Prompts and answers as the formats with one question write them: as text, as turns, or as a transcript."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..conversation import Message, Row
from ._base import RowError, first_of, kind_of, list_in, missing, optional_text_in, text_of, unpacked
from ._turns import checked_turns, message_of, with_system

PROMPTS = ("prompt", "instruction", "question", "query")
TALKS = ("messages", "conversations")
ASKING = (*PROMPTS, "input", *TALKS, "system", "system_prompt", "history")
"""Every column a prompt is made of."""
BEGINS = re.compile(r"\s*Human:")
SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")
"""A turn's beginning in a transcript, as Anthropic's HH-RLHF writes it (https://huggingface.co/datasets/Anthropic/hh-rlhf)."""


def prompt_in(fields: Mapping[str, Any]) -> list[Message]:
    """Return the turns up to the question from whichever columns ask it, none where none does; raises RowError."""
    turns: list[Message] = []
    if (name := first_of(PROMPTS, fields)) or (name := first_of(TALKS, fields)):
        turns = said_in(fields, name, "user")
    if isinstance(fields.get("input"), str) and turns and turns[-1].role == "user":
        turns[-1] = Message("user", joined(turns[-1].content, fields["input"]))
    return with_system(fields, [*history_in(fields), *turns])


def said_in(fields: Mapping[str, Any], name: str, role: str) -> list[Message]:
    """Return a field's turns: text is one turn of `role`, a transcript or list several; raises RowError."""
    if name not in fields:
        raise missing(repr(name), fields)
    value = fields[name]
    return said_by(unpacked(value, name) if name in TALKS else value, name, role)


def said_by(value: object, name: str, role: str) -> list[Message]:
    """Return the turns of a value that came from column `name`, as `said_in` does; raises RowError."""
    if isinstance(value, list):
        return [message_of(turn, number, name) for number, turn in enumerate(value, start=1)]
    if isinstance(value, dict):
        return [message_of(value, 1, name)]
    text = text_of(value, repr(name))
    if BEGINS.match(text):
        return _transcript(text)
    return [Message("assistant" if role == "assistant" else "user", text)]


def _transcript(text: str) -> list[Message]:
    """Return the turns of a transcript; an assistant's turn that is only begun is left to the answer."""
    pieces = SPEAKER.split(text)[1:]
    said = list(zip(pieces[::2], (piece.strip() for piece in pieces[1::2]), strict=True))
    if said[-1] == ("Assistant", ""):
        said.pop()
    return [Message("user" if who == "Human" else "assistant", words) for who, words in said]


def history_in(fields: Mapping[str, Any]) -> list[Message]:
    """Return the earlier exchanges as turns; raises RowError where one is not a pair of texts."""
    if fields.get("history") in (None, ""):
        return []
    turns: list[Message] = []
    for number, pair in enumerate(list_in(fields, "history"), start=1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError(
                "'history' is not a list of [question, answer] pairs", f"item {number} is {kind_of(pair)}"
            )
        wrong = [kind_of(text) for text in pair if not isinstance(text, str)]
        if wrong:
            raise RowError(f"'history' holds {wrong[0]} where text was meant", f"item {number}")
        asked, told = (text_of(text, "'history'") for text in pair)
        turns += [Message("user", asked), Message("assistant", told)]
    return turns


def one_exchange(fields: Mapping[str, Any], question: str, answer: str) -> list[Message]:
    """Return a row's system message and history, its question and its answer; raises RowError."""
    last = [Message("user", question), Message("assistant", answer)]
    return with_system(fields, [*history_in(fields), *last])


def joined(*texts: str) -> str:
    """Return the texts that are more than blanks, a line break between them."""
    return "\n".join(text for text in texts if text.strip())


def context_and(fields: Mapping[str, Any], names: Sequence[str], question: str) -> str:
    """Return the text to read (the first of `names` that is there), an empty line, and the question; raises
    RowError."""
    name = first_of(names, fields)
    context = optional_text_in(fields, name) if name else ""
    return f"{context}\n\n{question}" if context.strip() else question


def last_answer(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Return a conversation as its turns up to the last question, and the answer to it; raises RowError."""
    turns = checked_turns(messages)
    return list(turns[:-1]), [turns[-1]]


def answered(
    prompt: Sequence[Message], answer: Sequence[Message]
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return prompt and answer where they make a conversation together; raises RowError."""
    whole = checked_turns([*prompt, *answer])
    return whole[: len(whole) - len(answer)], whole[len(whole) - len(answer) :]


def one_question(row: Row, answer: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return a row's prompt and one of its answers, in order; raises RowError."""
    prompt = prompt_in(row.fields)
    if not prompt:
        raise missing(" or ".join(map(repr, PROMPTS)), row.fields)
    return answered(prompt, answer)
