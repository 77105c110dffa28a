"""Formats: what a good row becomes, and the reason every bad row is given."""

from __future__ import annotations

from typing import Any

import pytest

from weitiao.data.conversation import Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError

QA = [("user", "q"), ("assistant", "a")]


def parse(form: str, fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the turns of a row."""
    made = FORMATS.load(form)().parse(Row(fields, "f.json", 7))
    assert made.place == "f.json:7"
    return [(message.role, message.content) for message in made.messages]


def messages(*turns: tuple[str, Any]) -> dict[str, Any]:
    """Return a row in messages form."""
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize("name", FORMATS.names())
def test_contract_of_every_format(name: str) -> None:
    import json

    form = FORMATS.load(name)()
    example = json.loads(form.example)
    assert form.claims(set(example))
    assert not form.claims({"text"})
    assert form.required <= set(form.columns)
    assert form.parse(Row(example, "x", 1)).messages[-1].role == "assistant"
    assert FORMATS.summary(name).endswith(".")
    with pytest.raises(RowError, match="missing"):
        form.parse(Row({}, "x", 1))


def test_alpaca() -> None:
    assert parse("alpaca", {"instruction": "q", "input": "", "output": "a", "extra": 1}) == QA
    assert parse("alpaca", {"instruction": "q", "input": None, "output": "a", "history": None}) == QA
    full = {"instruction": "q", "input": "i", "output": "a", "system": "s", "history": [["q0", "a0"]]}
    assert parse("alpaca", full) == [
        ("system", "s"), ("user", "q0"), ("assistant", "a0"), ("user", "q\ni"), ("assistant", "a")
    ]  # fmt: skip
    assert parse("alpaca", {"instruction": "q", "output": "a", "history": '[["x", "y"]]'})[0] == ("user", "x")


def test_messages_takes_developer_as_system_and_joins_text_parts() -> None:
    parts = [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}]
    found = parse("messages", messages(("developer", "s"), ("user", parts), ("assistant", "a")))
    assert found == [("system", "s"), ("user", "q!"), ("assistant", "a")]


def test_sharegpt_takes_role_synonyms_and_a_system_column() -> None:
    row = {
        "system": "s",
        "conversations": [{"from": "Human", "value": "q"}, {"from": "chatgpt", "value": "a"}],
    }
    assert parse("sharegpt", row) == [("system", "s"), *QA]


@pytest.mark.parametrize(
    ("form", "fields", "reason"),
    [
        ("alpaca", {"instruction": "q"}, "'output' is missing"),
        ("alpaca", {"instruction": "q", "output": None}, "'output' is null where text was meant"),
        ("alpaca", {"instruction": "q", "output": 3}, "'output' is a number where text was meant"),
        ("alpaca", {"instruction": ["q"], "output": "a"}, "'instruction' is a list where text was meant"),
        ("alpaca", {"instruction": "q", "output": " \n"}, "an answer is empty"),
        ("alpaca", {"instruction": "", "output": "a"}, "a question is empty"),
        ("alpaca", {"instruction": "q", "output": "a", "history": "x"}, "'history' is text where a list"),
        ("alpaca", {"instruction": "q", "output": "a", "history": [["x"]]}, "[question, answer] pairs"),
        ("alpaca", {"instruction": "q", "output": "a", "history": [["x", 1]]}, "'history' holds a number"),
        ("messages", {"messages": "[{]"}, "text that is not a JSON list"),
        ("messages", {"messages": []}, "no answer"),
        ("messages", {"messages": ["x"]}, "a turn in 'messages' is text"),
        ("messages", {"messages": [{"content": "x"}]}, "a turn's 'role' is missing"),
        ("messages", {"messages": [{"role": "user"}]}, "a turn has no 'content'"),
        ("messages", messages(("user", "q")), "no answer"),
        ("messages", messages(*QA, ("user", "q")), "ends with a question"),
        ("messages", messages(("assistant", "a"), ("user", "q")), "out of order"),
        ("messages", messages(("user", "q"), *QA), "out of order"),
        ("messages", messages(*QA, ("assistant", "a")), "out of order"),
        ("messages", messages(("system", "s"), ("system", "s"), *QA), "two system messages"),
        ("messages", messages(("user", "q"), ("system", "s"), ("assistant", "a")), "out of order"),
        ("messages", messages(("wizard", "q"), ("assistant", "a")), "the role 'wizard' is unknown"),
        ("messages", messages(("tool", "q"), ("assistant", "a")), "calls tools"),
        ("messages", {"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]}, "calls tools"),
        ("messages", messages(("user", [{"type": "image_url"}]), ("assistant", "a")), "images"),
        ("messages", messages(("user", ["q"]), ("assistant", "a")), "a part of a turn's 'content' is text"),
        ("messages", messages(("user", 1), ("assistant", "a")), "a turn's 'content' is a number"),
        ("sharegpt", {"conversations": [{"from": "human", "value": None}]}, "a turn's 'value' is null"),
        ("sharegpt", {"conversations": [{"role": "user", "content": "q"}]}, "'role' and 'content'"),
    ],
)  # fmt: skip
def test_bad_rows_have_their_reason(form: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse(form, fields)
    assert reason in caught.value.reason
