"""ChatGPT's export: the path to the current message is the conversation, whatever else hangs on the tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weitiao.data.conversation import Conversation, Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError
from weitiao.data.gate.gate import open_data
from weitiao.data.settings import DataSettings


def content(text: str, kind: str = "text") -> dict[str, Any]:
    """Return a message's content."""
    return {"content_type": kind, "parts": [text]}


def message(role: str, inside: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a message as the export has it."""
    keys = {
        "id": "x",
        "create_time": 1.5,
        "status": "finished_successfully",
        "weight": 1.0,
        "recipient": "all",
    }
    return {**keys, "author": {"role": role, "name": None, "metadata": {}}, "content": inside, **more}


def exported(*messages: dict[str, Any] | None, branches: int = 0) -> dict[str, Any]:
    """Return a row whose path holds the messages below an empty root, with other branches at its end."""
    names = [f"n{number}" for number in range(len(messages))]
    mapping: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": names[:1]}}
    for number, (name, one) in enumerate(zip(names, messages, strict=True)):
        parent = names[number - 1] if number else "root"
        mapping[name] = {
            "id": name,
            "message": one,
            "parent": parent,
            "children": names[number + 1 : number + 2],
        }
    for number in range(branches):
        other = message("assistant", content("another answer"))
        mapping[f"b{number}"] = {"id": f"b{number}", "message": other, "parent": names[-2], "children": []}
    # The order of an object says nothing: the path does.
    return {
        "title": "t",
        "mapping": dict(reversed(mapping.items())),
        "current_node": names[-1] if names else "root",
    }


ASKED, ANSWERED = message("user", content("q")), message("assistant", content("a"))
EMPTY = message("system", content(""), weight=0.0, metadata={"is_visually_hidden_from_conversation": True})


def read(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the turns of a row."""
    made, _ = FORMATS.load("chatgpt")().parse_noting(Row(row, "f.json", 1))
    assert isinstance(made, Conversation)
    return [(one.role, one.content) for one in made.messages]


def test_the_path_to_the_current_message_is_read_and_other_branches_are_reported() -> None:
    row = exported(
        EMPTY, ASKED, ANSWERED, message("user", content("r")), message("assistant", content("b")), branches=2
    )
    form, unused = FORMATS.load("chatgpt")().parse_noting(Row(row, "f.json", 1))
    assert read(row) == [("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")]
    assert isinstance(form, Conversation) and all(one.weight is None for one in form.messages)
    assert "mapping[].other_branches" in unused and "title" in unused
    assert "mapping[].create_time" in unused and "mapping[].weight" not in unused
    assert "mapping[].other_branches" not in FORMATS.load("chatgpt")().parse_noting(
        Row(exported(ASKED, ANSWERED), "f.json", 1)
    )[1]  # fmt: skip


def test_what_a_person_told_of_themselves_is_the_system_message() -> None:
    about = {
        "content_type": "user_editable_context",
        "user_profile": "I cook.",
        "user_instructions": "Be brief.",
    }
    told = message("user", about, metadata={"is_visually_hidden_from_conversation": True})
    system = message("system", content("s"))
    assert read(exported(system, told, ASKED, ANSWERED))[0] == ("system", "s\n\nI cook.\n\nBe brief.")
    assert read(exported(EMPTY, told, ASKED, ANSWERED))[0] == ("system", "I cook.\n\nBe brief.")


def test_thoughts_are_the_reasoning_of_the_answer_behind_them() -> None:
    thoughts = {
        "content_type": "thoughts",
        "thoughts": [{"summary": "S", "content": "hm"}, {"summary": "", "content": "ok"}],
    }
    recap = {"content_type": "reasoning_recap", "content": "Thought for 3s"}
    row = exported(ASKED, message("assistant", thoughts), message("assistant", recap), ANSWERED)
    form, _ = FORMATS.load("chatgpt")().parse_noting(Row(row, "f.json", 1))
    assert isinstance(form, Conversation)
    assert form.messages[1].extra == {"reasoning_content": "S\nhm\n\nok"}


IMAGE = {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "q"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (exported(message("user", IMAGE), ANSWERED), "images or other parts"),
        (exported(ASKED, message("assistant", content("print(1)", "code"), recipient="python"), ANSWERED),
         "ChatGPT's built-in tools"),
        (exported(ASKED, message("tool", content("1")), ANSWERED), "ChatGPT's built-in tools"),
        (exported(ASKED), "no answer"),
        (exported(ASKED, ANSWERED, ASKED), "ends with a question"),
        (exported(ASKED, ANSWERED, ANSWERED), "two answers in a row"),
        (exported(), "no answer"),
        ({**exported(ASKED, ANSWERED), "current_node": "gone"}, "'mapping' lacks a message"),
        ({**exported(ASKED, ANSWERED), "current_node": None}, "'current_node' names no message"),
        ({"mapping": {"a": {"parent": "b"}, "b": {"parent": "a"}}, "current_node": "a"}, "form a cycle"),
        ({"mapping": {"a": {"parent": None, "message": "x"}}, "current_node": "a"}, "must be an object, not text"),
        ({"mapping": [1], "current_node": "a"}, "'mapping' must be an object, not a list"),
        (exported(message("wizard", content("q")), ANSWERED), "'wizard' is unknown"),
        (exported(message("user", {"content_type": "hologram", "parts": ["x"]}), ANSWERED), "images or other parts"),
    ],
)  # fmt: skip
def test_what_is_no_text_conversation_is_refused(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        read(row)
    assert reason in caught.value.reason


def test_a_file_of_the_export_is_known(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([exported(EMPTY, ASKED, ANSWERED)] * 2), encoding="utf-8")
    gate = open_data(DataSettings(sources=[str(path)], held_out=0))
    assert (dict(gate.tally.formats), gate.problems, gate.tally.bad) == ({"chatgpt": 2}, (), [])
