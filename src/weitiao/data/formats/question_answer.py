"""Question and answer, perhaps about a context to read; of several right answers the first is learnt.

`answers` is a list of texts, or SQuAD's {"text": [...], "answer_start": [...]} (https://arxiv.org/abs/1606.05250).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Conversation, Row
from ._base import Format, RowError, each_of, missing, needed, said_in_text, unpacked
from ._calls import TOOLS, tools_in
from ._fields import noted_within
from ._prompts import CONTEXTS, THOUGHTS, one_exchange, question_in
from ._turns import conversation

ANSWERS = ("answer", "answers")


class QuestionAnswer(Format):
    """The question follows its context, if there is one, after an empty line."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (
        "question",
        *ANSWERS,
        *CONTEXTS,
        *THOUGHTS,
        "input",
        "system",
        "system_prompt",
        "history",
        *TOOLS,
    )
    may_stay: ClassVar[tuple[str, ...]] = ("answers",)
    ways: ClassVar[tuple[frozenset[str], ...]] = each_of(("question",), ANSWERS)
    example: ClassVar[str] = '{"question": "What boils at 100 °C?", "answer": "Water, at sea level."}'

    def read(self, row: Row) -> Conversation:
        """Parse a row into one question and its first answer; raises RowError."""
        fields = row.fields
        if "question" not in fields:
            raise missing("'question'", fields)
        if not said_in_text(fields["question"], "'question'").strip():
            raise RowError("a question is empty", "turn 1")
        asked = question_in(fields, ("question",))
        return conversation(one_exchange(fields, asked, _answer(fields)), row, tools_in(fields))


def _answer(fields: Mapping[str, Any]) -> str:
    name = needed(ANSWERS, fields)
    value = unpacked(fields[name], name) if name == "answers" else fields[name]
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, list):
        return said_in_text(value, repr(name))
    if not value:
        raise RowError(f"{name!r} is an empty list")
    if any(other != value[0] for other in value):
        noted_within(fields, name, {"other_answers": True})
    return said_in_text(value[0], f"the first of {name!r}")
