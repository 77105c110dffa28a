"""Conversations that are written into one text become turns; a text that only looks like one stays as it is."""

from __future__ import annotations

from typing import Any

import pytest

from weitiao.data.conversation import Conversation, Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError

BELLE = "Human:你好\nAssistant:你好，有什么\n\n可以帮你？\nHuman:讲个笑话\nAssistant:"
TURNS = ["你好", "你好，有什么\n\n可以帮你？", "讲个笑话", "好的"]


def turns(name: str, fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Return who says what in a row."""
    form = FORMATS.load(name)().parse(Row(fields, "x", 1))
    assert isinstance(form, Conversation)
    return [(message.role, message.content) for message in form.messages]


@pytest.mark.parametrize(
    ("name", "asked", "answered"),
    [
        ("alpaca", "instruction", "output"),
        ("instruction_response", "instruction", "response"),
        ("prompt_completion", "prompt", "completion"),
        ("question_answer", "question", "answer"),
    ],
)
def test_belles_transcript_becomes_turns(name: str, asked: str, answered: str) -> None:
    said = turns(name, {asked: BELLE, answered: "好的"})
    assert said == [*zip(["user", "assistant"] * 2, TURNS, strict=True)]


@pytest.mark.parametrize(
    "text",
    [
        "Human: a\nAssistant: b\nHuman: c\nAssistant:",
        "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: ",
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c",
        "User: a\nAssistant: b\nUser: c\nAssistant:",
        "USER: a\nASSISTANT: b\nUSER: c\nASSISTANT:",
        "人类：a\n助手：b\n人类：c\n助手：",
        "用户: a\n助手: b\n用户: c",
        "Human: a\nAI: b\nHuman: c\nAI:",
    ],
)
def test_transcripts_of_every_speaker(text: str) -> None:
    assert [said for _, said in turns("alpaca", {"instruction": text, "output": "d"})] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "text",
    [
        "Human: what does it mean?",
        "Human: a\nAssistant: b",
        "Who wrote this?\nHuman: a\nAssistant: b\nHuman: c",
        "User: a\nUser: b",
        "Humans: a\nAssistant:",
    ],
)
def test_a_text_that_only_looks_like_one_stays(text: str) -> None:
    assert turns("alpaca", {"instruction": text, "output": "d"}) == [("user", text), ("assistant", "d")]


def test_a_line_break_within_a_turn_stays_where_turns_stand_apart() -> None:
    text = "\n\nHuman: a\nHuman: b\n\nAssistant: c\n\nHuman: d"
    said = turns("alpaca", {"instruction": text, "output": "e"})
    assert [one for _, one in said] == ["a\nHuman: b", "c", "d", "e"]


def test_input_context_and_history_stand_as_with_any_question() -> None:
    row = {"instruction": "Human: c\nAssistant:", "input": "in", "output": "d", "history": [["a", "b"]]}
    assert [said for _, said in turns("alpaca", row)] == ["a", "b", "c\nin", "d"]


def test_turns_out_of_order_are_refused() -> None:
    with pytest.raises(RowError, match="two questions in a row"):
        turns("alpaca", {"instruction": "Human: a\nHuman: b\nAssistant:", "output": "d"})


def test_an_answer_may_be_a_dialogue() -> None:
    answer = "User: a\nAssistant: b\nUser: c"
    assert turns("prompt_completion", {"prompt": "q", "completion": answer})[-1] == ("assistant", answer)
