"""Prompts and answers as the formats with one question write them: as text, as turns, or as a transcript."""

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
"""Text to read before the question."""
THOUGHTS = ("reasoning_content", "Complex_CoT")
"""An answer's thought in a column of its own (DeepSeek's name, and that of medical-o1-reasoning-SFT)."""
INPUT = "input"
"""What the instruction is about; where nothing else asks, the question itself."""
ASKING = (*PROMPTS, INPUT, *CONTEXTS, *TALKS, "system", "system_prompt", "history")
"""Every column a prompt is made of."""

TURNS_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:""")
"""How a list of turns begins that stands as text in a table's cell."""


def prompt_in(fields: Mapping[str, Any]) -> list[Message]:
    """Return the turns up to the question from whichever columns ask it, none where none does; raises RowError."""
    turns: list[Message] = []
    asked = first_of(PROMPTS, fields)
    if not asked or is_empty(fields[asked]):
        asked = first_of((*TALKS, INPUT), fields) or asked
    if asked:
        turns = with_beside(fields, said_in(fields, asked, "user"), asked)
    return with_system_turn(fields, [*history_in(fields), *turns])


def with_beside(fields: Mapping[str, Any], turns: Sequence[Message], asked: str) -> list[Message]:
    """Return turns from column `asked` whose last, a question, has the row's context before it and its input below
    it; raises RowError.
    """
    if not turns or turns[-1].role != "user":
        return list(turns)
    *before, last = turns
    question = completed(fields, last.content, asked)
    return list(turns) if question == last.content else [*before, replace(last, content=question)]


def completed(fields: Mapping[str, Any], question: str, asked: str) -> str:
    """Return a question that column `asked` holds, with the row's context before it and its input on the next line;
    raises RowError.
    """
    given = _optional_text(fields, INPUT) if asked != INPUT else ""
    return context_and(fields, CONTEXTS, joined(question, given))


def question_in(fields: Mapping[str, Any], names: Sequence[str]) -> list[Message]:
    """Return the turns up to the question that the first of `names` asks, with context and input; the input alone where
    none does.

    Raises RowError where neither is there.
    """
    name = first_of(names, fields)
    if not name and first_of((INPUT,), fields):
        name = INPUT
    if not name:
        raise missing(" or ".join(map(repr, names)), fields)
    text = said_in_text(fields[name], repr(name))
    return with_beside(fields, transcript(text) if is_transcript(text) else [Message("user", text)], name)


def said_in(fields: Mapping[str, Any], name: str, role: str) -> list[Message]:
    """Return a field's turns: text is one turn of `role`, a transcript or list several; raises RowError."""
    if name not in fields:
        raise missing(repr(name), fields)
    value = fields[name]
    if name in TALKS:
        found = unpacked(value, name)
        turns = found if isinstance(found, list) else [found]
        return masked([turn_of(turn, n, name, fields) for n, turn in enumerate(turns, start=1)], fields)
    return said_by(value, name, role, fields)


def said_by(value: object, name: str, role: str, fields: Mapping[str, Any]) -> list[Message]:
    """Return the turns of a value that stands in column `name`, as `said_in` does; raises RowError."""
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
    """Return the earlier exchanges as turns; raises RowError where one is neither a pair of texts nor a turn."""
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
        asked, told = (said_in_text(text, "one of 'history'") for text in pair)
        turns += [Message("user", asked), Message("assistant", told)]
    return turns


def one_exchange(fields: Mapping[str, Any], question: Sequence[Message], answer: str) -> list[Message]:
    """Return a row's system message and history, the turns up to its question and its answer; raises RowError."""
    last = Message("assistant", answer, extra=_thought_in(fields, answer))
    return with_system_turn(fields, [*history_in(fields), *question, last])


def _thought_in(fields: Mapping[str, Any], answer: str) -> dict[str, str]:
    """Return a row's thought as templates read it, nothing where it has none; raises RowError where the answer has one
    too.
    """
    name = first_of(THOUGHTS, fields)
    thought = _optional_text(fields, name) if name else ""
    if thought.strip() and "<think>" in answer:
        raise RowError(f"{name!r} holds a thought, and so does the answer", shortened_value(thought))
    return {"reasoning_content": thought} if thought.strip() else {}


def joined(*texts: str) -> str:
    """Return the texts that are more than blanks, a line break between them."""
    return "\n".join(text for text in texts if text.strip())


def context_and(fields: Mapping[str, Any], names: Sequence[str], question: str) -> str:
    """Return the text to read (the first of `names` that is there), an empty line, and the question; raises
    RowError."""
    name = first_of(names, fields)
    context = _optional_text(fields, name) if name else ""
    return f"{context}\n\n{question}" if context.strip() else question


def _optional_text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name) if name in fields else None
    return "" if value is None else said_in_text(value, repr(name))


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
