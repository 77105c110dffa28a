"""Reads prompts and answers of formats with one question per row: as text, as turns, or as a transcript."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..conversation import Message, Row
from ._base import RowError, first_of, kind_of, list_in, missing, said_in_text, shortened_value, unpacked
from ._fields import is_empty
from ._transcripts import HUMAN, is_transcript, transcript
from ._turns import checked_turns, turn_of, with_system_turn
from ._weights import masked

PROMPTS = ("prompt", "instruction", "question", "query")
TALKS = ("messages", "conversations", "conversation")
CONTEXTS = ("context", "passage")
"""Columns with text that precedes the question."""
THOUGHTS = ("reasoning_content", "Complex_CoT")
"""Columns with the reasoning of the answer (the names of DeepSeek and of medical-o1-reasoning-SFT)."""
INPUT = "input"
"""The column with the input of the instruction; if no other column asks, it is the question itself."""
ASKING = (*PROMPTS, INPUT, *CONTEXTS, *TALKS, "system", "system_prompt", "history")
"""Every column that a prompt may be made from."""

TURNS_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:""")
"""The beginning of a list of turns that is written as text in a table cell."""


def prompt_in(fields: Mapping[str, Any]) -> list[Message]:
    """Return the turns up to the question, from any of the prompt columns; empty if there is none; raises RowError."""
    turns: list[Message] = []
    asked = first_of(PROMPTS, fields)
    if not asked or is_empty(fields[asked]):
        asked = first_of((*TALKS, INPUT), fields) or asked
    if asked:
        turns = with_beside(fields, said_in(fields, asked, "user"), asked)
    return with_system_turn(fields, [*history_in(fields), *turns])


def with_beside(fields: Mapping[str, Any], turns: Sequence[Message], asked: str) -> list[Message]:
    """Return the turns of column `asked`, with the row's context before the last question and its input after it;
    raises RowError.
    """
    if not turns or turns[-1].role != "user":
        return list(turns)
    *before, last = turns
    question = completed(fields, last.content, asked)
    return list(turns) if question == last.content else [*before, replace(last, content=question)]


def completed(fields: Mapping[str, Any], question: str, asked: str) -> str:
    """Return the question of column `asked`, with the row's context before it and its input on the next line; raises
    RowError.
    """
    given = _optional_text(fields, INPUT) if asked != INPUT else ""
    return context_and(fields, CONTEXTS, joined(question, given))


def question_in(fields: Mapping[str, Any], names: Sequence[str]) -> list[Message]:
    """Return the turns up to the question, with context and input; the question is the first of `names` that is
    present, or else the input.

    Raises RowError if neither is present.
    """
    name = first_of(names, fields)
    if not name and first_of((INPUT,), fields):
        name = INPUT
    if not name:
        raise missing(" or ".join(map(repr, names)), fields)
    text = said_in_text(fields[name], repr(name))
    return with_beside(fields, transcript(text) if is_transcript(text) else [Message("user", text)], name)


def said_in(fields: Mapping[str, Any], name: str, role: str) -> list[Message]:
    """Return a field as turns: text is one turn of `role`, a transcript or list several; raises RowError."""
    if name not in fields:
        raise missing(repr(name), fields)
    value = fields[name]
    if name in TALKS:
        found = unpacked(value, name)
        turns = found if isinstance(found, list) else [found]
        return masked([turn_of(turn, n, name, fields) for n, turn in enumerate(turns, start=1)], fields)
    return said_by(value, name, role, fields)


def said_by(value: object, name: str, role: str, fields: Mapping[str, Any]) -> list[Message]:
    """Return a value of column `name` as turns, like `said_in`; raises RowError."""
    if isinstance(value, list | dict):
        turns = value if isinstance(value, list) else [value]
        return [
            message for n, turn in enumerate(turns, start=1) for message in turn_of(turn, n, name, fields)
        ]
    if isinstance(value, str) and TURNS_AS_TEXT.match(value):
        return said_by(unpacked(value, name), name, role, fields)
    text = said_in_text(value, repr(name))
    if HUMAN.match(text) or (role != "assistant" and is_transcript(text)):
        return transcript(text)
    return [Message("assistant" if role == "assistant" else "user", text)]


def history_in(fields: Mapping[str, Any]) -> list[Message]:
    """Return the exchanges in `history` as turns; raises RowError for an item that is neither a pair of texts nor a
    turn."""
    if is_empty(fields.get("history")):
        return []
    turns: list[Message] = []
    for number, pair in enumerate(list_in(fields, "history"), start=1):
        if isinstance(pair, dict):
            turns += turn_of(pair, number, "history", fields)
            continue
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError(
                "'history' is not a list of [question, answer] pairs", f"item {number} is {kind_of(pair)}"
            )
        asked, told = (said_in_text(text, "an item of 'history'") for text in pair)
        turns += [Message("user", asked), Message("assistant", told)]
    return turns


def one_exchange(fields: Mapping[str, Any], question: Sequence[Message], answer: str) -> list[Message]:
    """Return all turns of a row: system message, history, question and answer; raises RowError."""
    last = Message("assistant", answer, extra=_thought_in(fields, answer))
    return with_system_turn(fields, [*history_in(fields), *question, last])


def _thought_in(fields: Mapping[str, Any], answer: str) -> dict[str, str]:
    """Return a row's reasoning under the key that chat templates read, empty if it has none; raises RowError if the
    answer contains reasoning too.
    """
    name = first_of(THOUGHTS, fields)
    thought = _optional_text(fields, name) if name else ""
    if thought.strip() and "<think>" in answer:
        raise RowError(f"{name!r} holds reasoning, and so does the answer", shortened_value(thought))
    return {"reasoning_content": thought} if thought.strip() else {}


def joined(*texts: str) -> str:
    """Return the texts that are not blank, joined by line breaks."""
    return "\n".join(text for text in texts if text.strip())


def context_and(fields: Mapping[str, Any], names: Sequence[str], question: str) -> str:
    """Return the context (the first of `names` that is present), an empty line, and the question; raises RowError."""
    name = first_of(names, fields)
    context = _optional_text(fields, name) if name else ""
    return f"{context}\n\n{question}" if context.strip() else question


def _optional_text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name) if name in fields else None
    return "" if value is None else said_in_text(value, repr(name))


def last_answer(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Split a conversation into the turns before the last answer and that answer; raises RowError."""
    turns = checked_turns(messages)
    return list(turns[:-1]), [turns[-1]]


def answered(
    prompt: Sequence[Message], answer: Sequence[Message]
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return prompt and answer after checking that they form a conversation; raises RowError."""
    whole = checked_turns([*prompt, *answer])
    return whole[: len(whole) - len(answer)], whole[len(whole) - len(answer) :]


def one_question(row: Row, answer: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return a row's prompt and one of its answers, checked by `answered`; raises RowError, also without a prompt."""
    prompt = prompt_in(row.fields)
    if not prompt:
        raise missing(" or ".join(map(repr, PROMPTS)), row.fields)
    return answered(prompt, answer)
