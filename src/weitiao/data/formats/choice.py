"""A question with several answers, one of which is right (rank classification).

The choices are a list, columns A, B, C, D (C-Eval), or ARC's {"text": [...], "label": [...]}. The right one is given as
an index from 0 (MMLU, https://arxiv.org/abs/2009.03300), a letter, or its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..conversation import Message, Row
from ..forms import Choice
from ._base import (
    Format,
    RowError,
    each_of,
    first_of,
    missing,
    needed,
    said_in_text,
    shortened_value,
    text_of,
    unpacked,
)
from ._prompts import context_and
from ._turns import with_system_turn

LETTERS = "ABCDEFGHIJ"
QUESTIONS = ("question", "ctx", "prompt")
LISTS = ("choices", "options", "endings")
RIGHT = ("answer", "answerKey", "label")
CONTEXTS = ("context", "passage", "article")


class Choices(Format):
    """The right answer is identified by its index from 0, its letter or its text."""

    form: ClassVar[str] = "choice"
    columns: ClassVar[tuple[str, ...]] = (
        *QUESTIONS,
        *LISTS,
        *LETTERS,
        *RIGHT,
        *CONTEXTS,
        "system",
        "system_prompt",
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = (
        *each_of(QUESTIONS, LISTS, RIGHT),
        *(way | {"A", "B"} for way in each_of(QUESTIONS, RIGHT)),
    )
    example: ClassVar[str] = (
        '{"question": "Which one is a metal?", "choices": ["iron", "salt", "oak"], "answer": "A"}'
    )

    def read(self, row: Row) -> Choice:
        """Parse a row into a question, its choices and the index of the right one; raises RowError."""
        fields = row.fields
        asked = needed(QUESTIONS, fields)
        question = said_in_text(fields[asked], repr(asked))
        if not question.strip():
            raise RowError("a question is empty")
        choices, labels = _choices(fields)
        right = needed(RIGHT, fields)
        whole = context_and(fields, CONTEXTS, question)
        prompt = with_system_turn(fields, [Message("user", whole)])
        correct = _index(fields[right], choices, labels)
        return Choice(row.place, prompt=tuple(prompt), choices=tuple(choices), correct=correct)


def _choices(fields: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the choices, two or more, and the label of each; raises RowError."""
    name = first_of(LISTS, fields)
    labels: Sequence[object] = LETTERS
    if name:
        found = unpacked(fields[name], name)
    else:
        labels = [letter for letter in LETTERS if fields.get(letter) is not None]
        found = [fields[str(letter)] for letter in labels]
    if isinstance(found, dict):
        labels, found = found.get("label", ()), found.get("text")
    if not name and not found:
        raise missing(" or ".join(map(repr, (*LISTS, *LETTERS[:1]))), fields)
    if not isinstance(found, list) or not isinstance(labels, list | str):
        raise RowError(f"{name!r} is not a list of choices", shortened_value(found))
    choices = [text_of(choice, "a choice") for choice in found]
    if not all(choice.strip() for choice in choices):
        raise RowError("a choice is empty")
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise RowError(
            "there are fewer than two different choices, or two are the same", shortened_value(choices)
        )
    return choices, [str(label) for label in labels[: len(choices)]]


def _index(answer: object, choices: Sequence[str], labels: Sequence[str]) -> int:
    """Return the index of the right choice; raises RowError."""
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(choices):
            expected = f"{answer}, but the {len(choices)} choices count from 0"
            raise RowError("the right answer's index is not among the choices", expected)
        return answer
    written = text_of(answer, "the right answer").strip()
    for names in (choices, labels, [name.lower() for name in labels], [str(n) for n in range(len(choices))]):
        plain = [name.strip() for name in names]
        if written in plain:
            return plain.index(written)
    raise RowError(
        "the right answer is none of the choices",
        f"{shortened_value(answer)}, the choices are {shortened_value(choices)}",
    )
