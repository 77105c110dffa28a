"""Question and answer, perhaps about a context to read; of several right answers the first is learnt.

`answers` is a list of texts, or SQuAD's {"text": [...], "answer_start": [...]} (https://arxiv.org/abs/1606.05250).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Conversation, Row
from ._base import Format, RowError, each_of, needed, text_in, text_of, unpacked
from ._prompts import context_and, one_exchange
from ._turns import conversation

ANSWERS = ("answer", "answers")
CONTEXTS = ("context", "passage")


class QuestionAnswer(Format):
    """The question is asked below its context, with an empty line between them."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (
        "question",
        *ANSWERS,
        *CONTEXTS,
        "system",
        "system_prompt",
        "history",
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = each_of(("question",), ANSWERS)
    example: ClassVar[str] = '{"question": "What boils at 100 °C?", "answer": "Water, at sea level."}'

    def read(self, row: Row) -> Conversation:
        """Turn a row into one question and its first answer; raises RowError."""
        fields = row.fields
        question = text_in(fields, "question")
        if not question.strip():
            raise RowError("a question is empty", "turn 1")
        asked = context_and(fields, CONTEXTS, question)
        return conversation(one_exchange(fields, asked, _answer(fields)), row)


def _answer(fields: Mapping[str, Any]) -> str:
    name = needed(ANSWERS, fields)
    value = unpacked(fields[name], name) if name == "answers" else fields[name]
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, list):
        return text_of(value, repr(name))
    if not value:
        raise RowError(f"{name!r} is an empty list")
    return text_of(value[0], f"the first of {name!r}")
