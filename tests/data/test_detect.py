"""The format found by itself, with the reason; what two could claim is asked, what is close is proposed."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest

from weitiao.core.errors import DataError
from weitiao.core.locale import in_language
from weitiao.data.conversation import Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._detect import Detected, detect, known_columns, load_formats, rename

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def found(row: dict[str, Any], wanted: str = "auto", **mapping: str) -> Detected:
    """Detect the format of one row."""
    return detect(set(row), [Row(row, "f.json", 1)], wanted, mapping)


def columns(names: str) -> dict[str, Any]:
    """Return a row with text in the columns."""
    return dict.fromkeys(names.split(), "x")


ROWS: list[tuple[str, dict[str, Any]]] = [
    ("alpaca", columns("instruction input output")),
    ("alpaca", columns("instruction input output text")),
    ("alpaca", columns("instruction output system history id source")),
    ("messages", {"messages": TALK, "tools": "[]", "source": "x", "score": 1}),
    ("messages", {**columns("prompt prompt_id"), "messages": TALK}),
    ("sharegpt", {"conversations": TURNS, "id": "1"}),
    ("sharegpt", {"conversations": TALK}),
    ("prompt_completion", columns("prompt completion")),
    ("prompt_completion", {"prompt": TALK[:1], "completion": TALK[1:], "weight": 1}),
    ("prompt_completion", {**columns("prompt completion"), "label": "travel"}),
    ("instruction_response", columns("instruction context response category")),
    ("instruction_response", columns("id system_prompt question response")),
    ("instruction_response", columns("input output")),
    ("instruction_response", columns("query response")),
    ("question_answer", columns("question answer")),
    ("question_answer", {**columns("id title context question"), "answers": {"text": ["x"], "answer_start": [0]}}),
    ("plain_text", columns("text")),
    ("plain_text", columns("title content url")),
    ("plain_text", {"text": "x", "entities": ["a"]}),
    ("preference", columns("prompt chosen rejected")),
    ("preference", columns("chosen rejected")),
    ("preference", columns("instruction input output chosen rejected")),
    ("preference", {"prompt": "q", "prompt_id": "1", "messages": TALK, "chosen": TALK, "rejected": TALK}),
    ("preference", {"conversations": TURNS[:1], "chosen": TURNS[1], "rejected": TURNS[1]}),
    ("unpaired", {**columns("prompt completion"), "label": True}),
    ("unpaired", {**columns("prompt completion"), "label": 0}),
    ("unpaired", {**columns("instruction input output"), "kto_tag": True}),
    ("unpaired", {"messages": TALK, "kto_tag": False}),
    ("unpaired", {"messages": TALK, "label": False}),
    ("unpaired", {"conversations": TURNS, "label": True}),
    ("unpaired", {**columns("instruction input output"), "label": False}),
    ("unpaired", {**columns("question answer"), "label": True}),
    ("messages", {"messages": TALK, "label": "chat"}),
    ("preference", {"messages": TALK, "rejected_response": "b"}),
    ("preference", columns("query response rejected_response")),
    ("scored", {"messages": TALK, "reward": 1.0}),
    ("scored", {"prompt": "q", "completions": ["a"], "rewards": [1]}),
    ("scored", {**columns("prompt response"), "reward": 0.5}),
    ("choice", {**columns("question subject"), "choices": ["a", "b"], "answer": 0}),
    ("choice", columns("id question A B C D answer explanation")),
    ("choice", {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}),
    ("labelled", {"text": "x", "label": 1}),
    ("labelled", columns("premise hypothesis label idx")),
    ("labelled", {"text": "x", "labels": ["a"]}),
    ("tagged", {"id": "1", "tokens": ["a"], "pos_tags": [1], "ner_tags": [1]}),
    ("tagged", {"text": "a", "entities": [{"start": 0, "end": 1, "label": "X"}]}),
    ("pair", {"translation": {"en": "a", "zh": "b"}}),
    ("pair", columns("article highlights id")),
    ("pair", columns("text summary title")),
    ("messages", {"messages": TALK, "tokens": 12, "tags": ["a"], "task": "chat"}),
    ("messages", {"messages": TALK, "tokens": [5, 7], "tags": ["a", "b"]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name} {' '.join(row)}" for name, row in ROWS])
def test_format_is_found_by_itself(name: str, row: dict[str, Any]) -> None:
    assert found(row).format == name


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_finds_its_own_example_and_says_why(name: str) -> None:
    made = found(json.loads(load_formats()[name].example))
    assert (made.format, made.proposals) == (name, ())
    assert made.reason.startswith(f"{name}, because it has ")
    assert in_language(made.reason, "zh").startswith(f"{name}，因为有 ")


def test_the_reason_names_columns_rivals_and_mapping() -> None:
    made = found(columns("问题 output text"), instruction="问题")
    assert made.reason == (
        "alpaca, because it has instruction and output, instruction being its '问题' (which says more than plain_text)"
    )
    assert in_language(made.reason, "zh") == (
        "alpaca，因为有 instruction 和 output，instruction 即 '问题'（比 plain_text 更具体）"
    )


def asked(row: dict[str, Any], wanted: str = "auto") -> str:
    """Return the one problem detection ends in."""
    with pytest.raises(DataError) as caught:
        found(row, wanted)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("row", "first", "second"),
    [
        ({**columns("instruction output"), "messages": TALK}, "alpaca", "messages"),
        ({**columns("instruction output"), "conversations": TURNS}, "alpaca", "sharegpt"),
        (columns("instruction output response"), "alpaca", "instruction_response"),
        (columns("source target question answer"), "pair", "question_answer"),
        ({"messages": TALK, "conversations": TURNS}, "messages", "sharegpt"),
        ({"text": "x", "labels": ["a"], "tokens": ["x"]}, "labelled", "tagged"),
    ],
)
def test_what_two_could_claim_is_asked(row: dict[str, Any], first: str, second: str) -> None:
    text = asked(row)
    assert "the rows of f.json fit more than one format" in text
    assert f"format: {first} or format: {second}, under the source in data.sources" in text
    assert found(row, second).format == second
    assert "data.sources" in found(row, second).reason


READ_UNDER_OTHER_NAMES: list[tuple[str, str, dict[str, str]]] = [
    ("问题 回答", "alpaca", {"instruction": "问题", "output": "回答"}),
    ("问题 答案", "alpaca", {"instruction": "问题", "output": "答案"}),
    ("问 答", "alpaca", {"instruction": "问", "output": "答"}),
    ("q a", "alpaca", {"instruction": "q", "output": "a"}),
    ("user bot", "alpaca", {"instruction": "user", "output": "bot"}),
    ("user assistant", "alpaca", {"instruction": "user", "output": "assistant"}),
    ("human gpt", "alpaca", {"instruction": "human", "output": "gpt"}),
    ("Question Answer", "question_answer", {"question": "Question", "answer": "Answer"}),
    ("QUESTION ANSWER", "question_answer", {"question": "QUESTION", "answer": "ANSWER"}),
    ("Prompt Response", "instruction_response", {"prompt": "Prompt", "response": "Response"}),
    (
        "Instruction Input Output",
        "alpaca",
        {"instruction": "Instruction", "input": "Input", "output": "Output"},
    ),
    ("指令 输入 输出", "alpaca", {"instruction": "指令", "input": "输入", "output": "输出"}),
    ("系统 问题 答案", "alpaca", {"instruction": "问题", "output": "答案", "system": "系统"}),
    ("input target kind", "instruction_response", {"output": "target"}),
    ("问题 output", "alpaca", {"instruction": "问题"}),
    ("问题 选项 答案", "choice", {"question": "问题", "choices": "选项", "answer": "答案"}),
    ("文本", "plain_text", {"text": "文本"}),
    ("prompt better worse", "preference", {"chosen": "better", "rejected": "worse"}),
    ("Messages", "messages", {"messages": "Messages"}),
    ("instruction output History", "alpaca", {"history": "History"}),
    ("messages 系统提示", "messages", {"system": "系统提示"}),
]


@pytest.mark.parametrize(("names", "format_", "mapping"), READ_UNDER_OTHER_NAMES)
def test_names_in_another_case_or_language_are_read(
    names: str, format_: str, mapping: dict[str, str]
) -> None:
    made = found(columns(names))
    assert (made.format, made.columns, made.proposals) == (format_, mapping, ())
    assert all(f"{ours} being its {theirs!r}" in made.reason for ours, theirs in mapping.items())
    said = in_language(made.reason, "zh")
    assert all(f"{ours} 即 {theirs!r}" in said for ours, theirs in mapping.items())


def test_what_a_person_maps_goes_before_what_is_meant() -> None:
    made = found(columns("问题 答案 回答"), output="回答")
    assert (made.format, made.columns) == ("alpaca", {"instruction": "问题"})


@pytest.mark.parametrize(
    ("names", "typed"),
    [
        (("instuction", "output"), "data.columns.instruction=instuction"),
        (("问题", "outputt"), "data.columns.instruction=问题 data.columns.output=outputt"),
        (("prompt", "chosn", "worse"), "data.columns.chosen=chosn data.columns.rejected=worse"),
        (("mesages",), "data.columns.messages=mesages"),
    ],
)
def test_near_names_are_proposed(names: tuple[str, ...], typed: str) -> None:
    assert f"  try       {typed}\n" in asked(dict.fromkeys(names, "x")) + "\n"
    settings = dict(part.removeprefix("data.columns.").split("=") for part in typed.split(" "))
    assert found(dict.fromkeys(names, "x"), **settings).format


def test_columns_that_say_nothing_do_not_decide() -> None:
    assert found({**columns("instruction output"), "label": None}).format == "alpaca"
    assert found({"messages": TALK, "rejected_response": "", "images": []}).format == "messages"
    rows = [Row({"messages": TALK, "label": label}, "f.json", 1) for label in (None, True)]
    assert detect({"messages", "label"}, rows).format == "unpaired"


def test_strange_columns_are_answered_with_a_row_and_what_to_type() -> None:
    text = asked(columns("foo bar"))
    assert text.startswith("the columns of f.json fit no format\n")
    assert FORMATS.load("alpaca").example in text
    assert "data.columns.instruction=QUESTION" in text
    assert "data.columns.instruction=QUESTION" in asked({"Question ": "x"})  # nothing answers it


@pytest.mark.parametrize("name", FORMATS.names())
def test_rows_short_of_one_column_are_told_which_format_is_nearest(name: str) -> None:
    way = max(FORMATS.load(name).ways, key=len)
    for column in sorted(way) if len(way) > 1 else ():
        rows = dict.fromkeys(way - {column}, "x") | {"foo": "y"}
        try:
            detect(set(rows), [Row(rows, "f.json", 1)])
        except DataError as error:
            (problem,) = error.problems
            assert "fit" in problem.what.partition("\n")[0]
            nearest, _, missing = problem.what.partition("; the nearest is ")[2].partition(", and ")
            one = FORMATS.load(nearest) if nearest else None
            needed = missing.removesuffix(" is missing").split(", ")
            assert one is None or any(way <= {*rows, *needed} for way in one.ways), problem.what


@pytest.mark.parametrize("names", ["foo bar", "instruction bar", " ".join(f"column_{n}" for n in range(90))])
def test_what_is_said_of_strange_columns_fits_on_a_screen(names: str) -> None:
    shown = [part for line in asked(columns(names)).splitlines() for part in textwrap.wrap(line, 80) or [""]]
    assert len(shown) <= 8, "\n".join(shown)


def test_a_slip_in_a_column_that_may_be_left_out_is_proposed() -> None:
    assert found(columns("instruction output sytem")).proposals == ("data.columns.system=sytem",)
    assert found(columns("instruction output id source url score title")).proposals == ()
    assert found(columns("instruction Output"), "alpaca").columns == {"output": "Output"}
    assert found(columns("instruction outputt"), "alpaca").proposals == ("data.columns.output=outputt",)


def test_columns_take_the_names_used_here() -> None:
    row = Row({"q": "1", "instruction": "old", "z": "2"}, "f", 1)
    assert rename(row, {"instruction": "q"}).fields == {"instruction": "1", "z": "2"}
    assert rename(row, {"output": "none"}) == row
    assert rename(row, {"output": "instruction", "instruction": "q"}).fields == {
        "instruction": "1", "output": "old", "z": "2"
    }  # fmt: skip
    assert {"task", "kto_tag", "chosen"} <= known_columns()


ODD: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = [
    ("unpaired", [{**columns("prompt completion"), "label": label} for label in (True, False, True)], {"label": 5}),
    ("unpaired", [{**columns("prompt completion"), "label": label} for label in ("1", "0")], {"label": "maybe"}),
    ("unpaired", [{"messages": TALK, "label": label} for label in (1, 0)], {"label": [1]}),
    ("tagged", [{"tokens": ["a"], "tags": ["O"]}] * 2, {"tokens": "a"}),
    ("alpaca", [{"问题": "q", "答案": "a"}] * 2, {"text": "a"}),
    ("tagged", [{"text": "a", "spans": [[0, 1, "X"]]}] * 2, {"spans": 5}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rows", "odd"), ODD)
@pytest.mark.parametrize("place", [0, -1])
def test_one_odd_row_does_not_change_the_format_of_the_others(
    name: str, rows: list[dict[str, Any]], odd: dict[str, Any], place: int
) -> None:
    sample = [Row(row, "f.json", line) for line, row in enumerate(rows, start=1)]
    sample.insert(place % (len(sample) + 1), Row({**rows[0], **odd}, "f.json", 9))
    assert detect({*rows[0], *odd}, sample).format == name


def test_numbers_of_classes_are_no_truth() -> None:
    rows = [Row({"messages": TALK, "label": label}, "f.json", 1) for label in (0, 1, 0, 1, 2)]
    assert detect({"messages", "label"}, rows).format == "messages"
