"""Columns that ask, answer or tell the same: the row says whether one may be left out; and columns that choose rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from weitiao.core.locale import in_language
from weitiao.data.conversation import Conversation, Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError
from weitiao.data.formats._known import NOT_TRAINED
from weitiao.data.gate.gate import Gate, open_data
from weitiao.data.report.overview import overview
from weitiao.data.settings import DataSettings

ALPACA = {"instruction": "Name a metal.", "input": "A light one.", "output": "Lithium."}
RENDERED = "### Instruction:\nName a metal.\n\n### Input:\nA light one.\n\n### Response:\nLithium."
TALK = [{"role": "user", "content": "Name a metal."}, {"role": "assistant", "content": "Lithium."}]


def look(path: Path, rows: list[dict[str, Any]], **source: Any) -> Gate:  # noqa: ANN401
    """Write rows into a file and bring it through the gate."""
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return open_data(DataSettings(sources=[{"path": str(path), **source}], held_out=0))


def reasons(gate: Gate) -> list[str]:
    """Return why rows are refused."""
    return [bad["reason"] for bad in gate.tally.bad]


@pytest.mark.parametrize(
    ("row", "form", "unused"),
    [
        ({**ALPACA, "text": RENDERED}, "conversation", "text"),
        ({**ALPACA, "text": RENDERED.replace("\n", " ")}, "conversation", "text"),
        ({"messages": TALK, "text": "<|user|>Name a metal.<|assistant|>Lithium."}, "conversation", "text"),
        ({"messages": TALK, "answer": "Gold."}, "conversation", "answer"),
        ({"messages": TALK, "response": "Lithium."}, "conversation", "response"),
        ({"instruction": "2+2?", "output": "It is 4.", "reply": 4}, "conversation", "reply"),
        ({"prompt": "Name a metal.", "text": RENDERED}, "text", "prompt"),
        ({"completion": "Lithium.", "text": RENDERED}, "text", "completion"),
        ({"messages": TALK, "prompt": "Name a metal."}, "conversation", "prompt"),
        ({"text": "A fruit.", "label": "x", "question": "A fruit."}, "labelled", "question"),
        ({"messages": TALK, "solution": "Gold."}, "conversation", "solution"),
        (
            {"question": "Name a metal.", "answer": "Tin.", "document": "metals/tin.pdf"},
            "conversation",
            "document",
        ),
        (
            {"question": "Name a metal.", "answer": "Tin.", "text": "https://tin.org/a b"[:16]},
            "conversation",
            "text",
        ),
        ({"text": "A fine day.", "user": "lily"}, "text", "user"),
        (
            {**ALPACA, "instruction": "Name a metal for me.", "prompt": "Name a metal for me."},
            "conversation",
            "prompt",
        ),
    ],
)
def test_a_column_that_another_holds_is_noted(
    row: dict[str, Any], form: str, unused: str, tmp_path: Path
) -> None:
    gate = look(tmp_path / "a.jsonl", [row])
    assert (dict(gate.tally.forms), [*gate.tally.unused.values()]) == ({form: 1}, [{unused: 1}])


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ({"prompt": "Name a metal.", "text": "Lithium."}, "prompt"),
        ({"instruction": "Name a metal.", "text": "Lithium."}, "instruction"),
        ({"问题": "Name a metal.", "text": "Lithium."}, "问题"),
        ({"text": "Name a metal.", "completion": "Lithium."}, "completion"),
        ({"text": "Name a metal.", "output": "Lithium."}, "output"),
        ({"text": "Name a metal.", "answer": 3}, "answer"),
        ({**ALPACA, "text": "Lithium floats on oil."}, "text"),
        ({**ALPACA, "content": "Lithium floats on oil."}, "content"),
        ({**ALPACA, "text": RENDERED.replace("A light one.", "")}, "text"),
        ({"messages": TALK, "text": "Lithium floats on oil."}, "text"),
        ({"messages": TALK, "output": "Gold."}, "output"),
        ({"question": "Name a metal.", "answer": "Gold.", "reply": "Lithium."}, "reply"),
        ({"prompt": "Name a metal.", "completion": "Gold.", "output": "Lithium."}, "output"),
        ({"text": "A fruit.", "label": "x", "question": "Is it sweet?"}, "question"),
        ({"Text": "Tin.", "Prompt": "Name a metal."}, "Prompt"),
        ({"text": "A fine day.", "target": 1}, "target"),
        ({"text": "Metals.", "problem": "Name a metal."}, "problem"),
        ({"question": "Name a metal.", "answer": "Tin.", "solution": "Gold."}, "solution"),
        ({"question": "Name a metal.", "answer": "Tin.", "document": "Tin is a metal."}, "document"),
        ({"instruction": "Name a metal.", "output": "Tin.", "article": "Tin is a metal."}, "article"),
        ({"messages": TALK, "prompt": "Name"}, "prompt"),
    ],
)
def test_a_column_that_says_something_else_is_refused(
    row: dict[str, Any], refused: str, tmp_path: Path
) -> None:
    gate = look(tmp_path / "a.jsonl", [row])
    (reason,) = reasons(gate)
    assert reason.startswith(f"'{refused}' holds text ") and f"ignore_columns={refused} reads" in reason
    without = look(tmp_path / "a.jsonl", [row], ignore_columns=refused)
    assert not without.tally.bad and not without.problems


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Name a metal.", "text": "Lithium."},
        {"instruction": "Name a metal.", "text": "Lithium."},
        {"问题": "Name a metal.", "text": "Lithium."},
        {"Prompt": "Name a metal.", "Text": "Lithium."},
        {"text": "Lithium.", "problem": "Name a metal."},
        {"content": "Lithium.", "question": "Name a metal."},
        {"text": "Name a metal.", "output": "Lithium."},
        {"text": "Name a metal.", "answer": "Lithium."},
        {"text": "Name a metal.", "target": "Lithium."},
    ],
)
def test_the_setting_that_is_proposed_uses_both(row: dict[str, Any], tmp_path: Path) -> None:
    (reason,) = reasons(look(tmp_path / "a.jsonl", [row]))
    columns = dict(re.findall(r"data\.columns\.(\w+)=(\S+) ", reason))
    form = look(tmp_path / "a.jsonl", [row], columns=columns).store.form(0)
    assert isinstance(form, Conversation)
    assert [message.content for message in form.messages] == ["Name a metal.", "Lithium."]


def test_text_to_read_is_read_before_the_question(tmp_path: Path) -> None:
    row = {**ALPACA, "text": "Lithium floats on oil."}
    assert "data.columns.context=text" in reasons(look(tmp_path / "a.jsonl", [row]))[0]
    form = look(tmp_path / "a.jsonl", [row], columns={"context": "text"}).store.form(0)
    assert isinstance(form, Conversation)
    assert form.messages[0].content == "Lithium floats on oil.\n\nName a metal.\nA light one."


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("is_correct", True, False), ("is_good", 1, 0), ("correct", "true", "false"), ("isCorrect", "1", "0"),
        ("是否正确", "是", "否"), ("deleted", False, True), ("is_duplicate", "no", "yes"), ("skip", False, True),
        ("split", "train", "test"), ("Split", "training", "validation"), ("valid", True, False),
    ],
)  # fmt: skip
def test_a_row_that_is_not_to_be_used_is_refused(
    column: str, good: object, bad: object, tmp_path: Path
) -> None:
    gate = look(tmp_path / "a.jsonl", [{**ALPACA, column: good}, {**ALPACA, column: bad}, ALPACA])
    assert dict(gate.tally.forms) == {"conversation": 2} and not gate.tally.unused
    (reason,) = reasons(gate)
    assert reason.startswith(f"{column!r} marks the row as one not to train on")
    both = look(tmp_path / "a.jsonl", [{**ALPACA, column: bad}], ignore_columns=column)
    assert dict(both.tally.forms) == {"conversation": 1}


def test_rows_to_measure_with_are_of_another_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({**ALPACA, "split": split}))
    trained, measured = str(tmp_path / "train.jsonl"), str(tmp_path / "test.jsonl")
    gate = open_data(DataSettings(sources=[trained], held_out_path=measured))
    assert dict(gate.tally.forms) == {"conversation": 2}
    assert not gate.problems and not gate.tally.bad


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_asks_whether_a_row_is_to_be_used(name: str) -> None:
    one = FORMATS.load(name)()
    row = json.loads(one.example)
    plain, unused = one.parse_noting(Row(row, "x", 1))
    assert one.parse_noting(Row({**row, "split": "train"}, "x", 1)) == (plain, unused) or one.form in (
        "unpaired",
        "scored",
    )
    if one.form in ("unpaired", "scored"):  # they train on bad answers as bad
        assert one.parse_noting(Row({**row, "is_good": False}, "x", 1)) == (plain, [*unused, "is_good"])
        return
    with pytest.raises(RowError, match="one not to train on"):
        one.parse_noting(Row({**row, "is_good": False}, "x", 1))


def test_what_judges_answers_may_be_the_label_of_kto(tmp_path: Path) -> None:
    rows = [{**ALPACA, "is_good": True}, {**ALPACA, "is_good": False}]
    (reason,) = reasons(look(tmp_path / "a.jsonl", rows))
    assert "data.columns.label=is_good uses it as the label for KTO" in reason
    gate = look(tmp_path / "a.jsonl", rows, columns={"label": "is_good"})
    assert dict(gate.tally.forms) == {"unpaired": 2}
    (other,) = reasons(look(tmp_path / "a.jsonl", [{**ALPACA, "deleted": True}, ALPACA]))
    assert "KTO" not in other


def test_grades_are_pointed_out_and_other_columns_noted(tmp_path: Path) -> None:
    rows = [{**ALPACA, "rating": n, "quality": "low", "correct": n, "id": n} for n in range(2)]
    findings = {one.severity: one for one in overview(look(tmp_path / "a.jsonl", rows)).findings}
    assert findings["warning"].what.endswith("alike: rating, quality, correct")
    assert findings["warning"].places == (f"{tmp_path / 'a.jsonl'}: rating (2), quality (2), correct (2)",)
    assert findings["note"].what.endswith("not used: id")
    assert "评级" in in_language(findings["warning"].what, "zh")


@pytest.mark.parametrize(
    ("key", "value", "weight"),
    [
        ("masked", True, 0), ("is_masked", 1, 0), ("ignore", 1, 0), ("skip", "true", 0), ("no_loss", True, 0),
        ("trainable", False, 0), ("learn", True, 1), ("compute_loss", 0, 0),
    ],
)  # fmt: skip
def test_keys_of_turns_that_say_whether_they_are_trained(key: str, value: object, weight: float) -> None:
    one = FORMATS.load("messages")()
    turns = [*TALK, TALK[0], {**TALK[1], key: value}]
    form = one.parse(Row({"messages": turns}, "x", 1))
    assert isinstance(form, Conversation) and form.messages[-1].weight == weight
    with pytest.raises(RowError, match="contradict"):
        one.parse(Row({"messages": [*turns[:-1], {**turns[-1], "weight": 1 - weight}]}, "x", 1))


@pytest.mark.parametrize("key", NOT_TRAINED)
def test_a_turn_that_is_not_left_out_is_as_any_other(key: str) -> None:
    one = FORMATS.load("messages")()
    plain = one.parse_noting(Row({"messages": TALK}, "x", 1))
    for value in (False, 0, "false", None, ""):
        turns = [{**turn, key: value} for turn in TALK]
        assert one.parse_noting(Row({"messages": turns}, "x", 1)) == plain


@pytest.mark.parametrize("key", ["mask", "Mask"])
def test_a_mask_that_can_mean_both_is_refused(key: str) -> None:
    one = FORMATS.load("messages")()
    for row in (
        {"messages": [TALK[0], {**TALK[1], key: 1}]},
        {"messages": TALK, key: [0, 1]},
    ):
        with pytest.raises(RowError, match="a weight in the loss"):
            one.parse(Row(row, "x", 1))


def test_a_column_that_a_mapping_displaces_is_listed(tmp_path: Path) -> None:
    row = {"q2": "Why?", "instruction": "Where?", "input": "Bern", "output": "There."}
    gate = look(tmp_path / "a.jsonl", [row, {**row, "instruction": ""}], columns={"instruction": "q2"})
    assert [*gate.tally.unused.values()] == [{"instruction": 1}]
    swapped = look(
        tmp_path / "b.jsonl",
        [row],
        columns={"instruction": "output", "output": "instruction", "system": "q2"},
    )
    assert not swapped.tally.unused and not swapped.problems


def test_a_column_of_a_sources_own_mapping_that_no_row_has_is_refused(tmp_path: Path) -> None:
    rows = [{"instruction": "Why?", "sysprompt": "Be brief.", "output": "So."}]
    gate = look(tmp_path / "a.jsonl", rows, columns={"system": "sysprmpt", "input": "nope"})
    assert [(one.got, one.remedy) for one in gate.problems] == [
        ("sysprmpt, as its system", "sysprompt"),
        ("nope, as its input", ""),
    ]
    assert "'nope'" not in gate.tally.detected[0]["why"]


def test_the_usual_columns_of_an_entry_may_be_missing(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "q"}]
    row = {
        "conversations": talk,
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    }
    gate = look(tmp_path / "a.jsonl", [row], columns={"prompt": "instruction"})
    assert not gate.problems
