"""Formats: what a good row becomes, and the reason every bad row is given."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weitiao.data.conversation import Conversation, Message, Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError
from weitiao.data.forms import FORMS, form_to_plain, kind_of_form, parts

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.floats(),
    st.sampled_from(
        [
            "",
            "a",
            "A",
            "1",
            "true",
            " ",
            "\ud800",
            "[1]",
            '{"a": 1}',
            "[",
            "Human: x",
            "\n\nHuman: a\n\nAssistant: b",
        ]
    ),
)
KEYS = st.sampled_from(
    ["role", "content", "from", "value", "text", "label", "type", "start", "end", "tool_calls", "function", "name",
     "arguments", "weight", "en", "zh"]
)  # fmt: skip
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "function_call", "gpt", "human", "x"])
TURNS = st.lists(st.fixed_dictionaries({"role": ROLES, "content": SCALARS}), max_size=3)
ANYTHING = st.recursive(
    SCALARS | TURNS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
"""What JSON may hold, with a leaning to what formats look for."""
QA = [("user", "q"), ("assistant", "a")]


def parse(form: str, fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the turns of a row."""
    made = FORMATS.load(form)().parse(Row(fields, "f.json", 7))
    assert made.place == "f.json:7"
    return [(message.role, message.content) for message in made.messages]


def messages(*turns: tuple[str, Any]) -> dict[str, Any]:
    """Return a row in messages form."""
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


CALL = {"id": "7", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
MEANT = {"id": "7", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


def calling(calls: Any, *more: tuple[str, str]) -> dict[str, Any]:  # noqa: ANN401  (also what is no list)
    """Return a row whose answer calls tools."""
    turn = {"role": "assistant", "content": None, "tool_calls": calls}
    return {"messages": [{"role": "user", "content": "q"}, turn, *messages(*more)["messages"]]}


def weighted(weight: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a row whose answer has a weight."""
    return {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "weight": weight},
        ]
    }


@pytest.mark.parametrize("name", FORMATS.names())
def test_contract_of_every_format(name: str) -> None:
    form = FORMATS.load(name)()
    example = json.loads(form.example)
    row = Row(example, "x", 1)
    assert form.claims(set(example))
    assert form.claims_rows([row])
    assert not form.claims({"foo"})
    assert {column for way in form.ways for column in way} <= set(form.columns)
    assert len(set(form.columns)) == len(form.columns)
    assert isinstance(form.parse(row), FORMS[form.form])
    assert kind_of_form(form.parse(row)) == form.form
    assert form.parse(Row({**example, "task": "a"}, "x", 1)).task == "a"
    assert FORMATS.summary(name).endswith(".")
    assert form.reason(form.claimed(set(example))).startswith("it has ")
    with pytest.raises(RowError, match="missing"):
        form.parse(Row({}, "x", 1))


@pytest.mark.parametrize("name", FORMATS.names())
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_stands_in_a_row_it_is_read_or_given_a_reason(name: str, data: st.DataObject) -> None:
    form = FORMATS.load(name)()
    drawn = st.dictionaries(st.sampled_from(form.columns), ANYTHING)
    fields = (
        {**json.loads(form.example), **data.draw(drawn)} if data.draw(st.booleans()) else data.draw(drawn)
    )
    sample = [Row(fields, "x", 1)]
    form.claims_rows(sample)
    try:
        made = form.parse(sample[0])
    except RowError as error:
        assert error.reason
    else:
        json.dumps(form_to_plain(made), ensure_ascii=False).encode()
        assert copy.deepcopy(made) == made
        assert parts(made)


def test_alpaca() -> None:
    assert parse("alpaca", {"instruction": "q", "input": "", "output": "a", "extra": 1}) == QA
    assert parse("alpaca", {"instruction": "q", "input": None, "output": "a", "history": None}) == QA
    full = {"instruction": "q", "input": "i", "output": "a", "system": "s", "history": [["q0", "a0"]]}
    assert parse("alpaca", full) == [
        ("system", "s"), ("user", "q0"), ("assistant", "a0"), ("user", "q\ni"), ("assistant", "a")
    ]  # fmt: skip
    assert parse("alpaca", {"instruction": "q", "output": "a", "history": '[["x", "y"]]'})[0] == ("user", "x")


@pytest.mark.parametrize(
    ("form", "fields", "asked"),
    [
        ("alpaca", {"input": "i", "output": "a"}, "i"),
        ("alpaca", {"instruction": "", "input": "i", "output": "a"}, "i"),
        ("alpaca", {"instruction": None, "input": "i", "output": "a"}, "i"),
        ("alpaca", {"instruction": "q", "input": 7, "output": "a"}, "q\n7"),
        ("alpaca", {"instruction": "q", "input": "q", "output": "a"}, "q\nq"),
        ("alpaca", {"instruction": "q", "input": "i", "context": "c", "output": "a"}, "c\n\nq\ni"),
        ("instruction_response", {"instruction": "q", "input": "i", "response": "a"}, "q\ni"),
        ("instruction_response", {"instruction": "将以下句子翻译成法语。", "input": "你好", "response": "a"},
         "将以下句子翻译成法语。\n你好"),
        ("instruction_response", {"query": "q", "input": "i", "context": "c", "answer": "a"}, "c\n\nq\ni"),
        ("instruction_response", {"question": "", "input": "i", "reply": "a"}, "i"),
        ("question_answer", {"question": "q", "input": "i", "passage": "c", "answer": "a"}, "c\n\nq\ni"),
        ("prompt_completion", {"prompt": "q", "input": "i", "context": "c", "completion": "a"}, "c\n\nq\ni"),
    ],
)  # fmt: skip
def test_every_column_of_the_prompt_is_asked(form: str, fields: dict[str, Any], asked: str) -> None:
    assert parse(form, fields) == [("user", asked), ("assistant", "a")]


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("alpaca", {"instruction": "q", "output": 42}),
        ("messages", messages(("user", "q"), ("assistant", 42))),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": 42}]}),
        ("sharegpt", {"conversation": [{"human": "q", "assistant": 42}]}),
        ("question_answer", {"question": "q", "answer": 42}),
        ("question_answer", {"question": "q", "answers": {"text": [42], "answer_start": [0]}}),
        ("instruction_response", {"query": "q", "response": 42}),
        ("prompt_completion", {"prompt": "q", "completion": 42}),
    ],
)
def test_a_number_as_an_answer_is_text(form: str, fields: dict[str, Any]) -> None:
    assert parse(form, fields) == [("user", "q"), ("assistant", "42")]


def test_history_as_turns() -> None:
    row = {"instruction": "q", "output": "a"}
    said = [("user", "x"), ("assistant", "y"), *QA]
    for history in (
        [["x", "y"]],
        [{"human": "x", "assistant": "y"}],
        messages(("user", "x"), ("assistant", "y"))["messages"],
    ):
        assert parse("alpaca", {**row, "history": history}) == said
        assert parse("prompt_completion", {"prompt": "q", "completion": "a", "history": history}) == said


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


def test_prompt_and_completion_as_text_and_as_messages() -> None:
    assert parse("prompt_completion", {"prompt": "q", "completion": "a"}) == QA
    talk = messages(("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b"))["messages"]
    both = turns_of("prompt_completion", {"prompt": talk[:3], "completion": talk[3:], "system": "s"})
    assert [message.content for message in both] == ["s", "q", "a", "r", "b"]
    assert [message.weight for message in both] == [None, None, 0.0, None, None]
    weighted_too = turns_of("prompt_completion", {"prompt": "q", "completion": "a", "weight": "0.25"})
    assert [message.weight for message in weighted_too] == [None, 0.25]


def test_question_and_answer() -> None:
    assert parse("question_answer", {"question": "q", "answer": "a"}) == QA
    squad = {"question": "q", "context": "c", "answers": {"text": ["a", "A"], "answer_start": [0, 0]}}
    assert parse("question_answer", squad) == [("user", "c\n\nq"), ("assistant", "a")]
    assert parse("question_answer", {"question": "q", "answers": '["a", "b"]', "passage": None}) == QA


def test_instruction_and_response_under_other_names() -> None:
    dolly = {"instruction": "q", "context": "c", "response": "a", "history": [["x", "y"]]}
    assert parse("instruction_response", dolly) == [
        ("user", "x"), ("assistant", "y"), ("user", "c\n\nq"), ("assistant", "a")
    ]  # fmt: skip
    orca = {"system_prompt": "s", "question": "q", "response": "a"}
    assert parse("instruction_response", orca) == [("system", "s"), *QA]
    assert parse("instruction_response", {"input": "q", "output": "a"}) == QA


def turns_of(form: str, fields: dict[str, Any]) -> tuple[Message, ...]:
    """Return a row's messages, whole."""
    made = FORMATS.load(form)().parse(Row(fields, "f.json", 7))
    assert isinstance(made, Conversation)
    return made.messages


def test_tool_calls_and_results_are_kept_as_templates_read_them() -> None:
    row = calling([CALL], ("tool", "3"), ("assistant", "It is 3."))
    row["messages"][2] |= {"tool_call_id": "7", "name": "f"}
    row["tools"] = '[{"name": "f", "parameters": {}}]'
    asked, call, result, answer = turns_of("messages", row)
    assert (call.content, call.extra) == ("", {"tool_calls": [MEANT]})
    assert (result.role, result.content, result.extra) == ("tool", "3", {"tool_call_id": "7", "name": "f"})
    assert (asked.extra, answer.extra) == ({}, {})
    made = FORMATS.load("messages")().parse(Row(row, "x", 1))
    assert made.tools == ({"type": "function", "function": {"name": "f", "parameters": {}}},)
    assert turns_of("messages", calling([CALL]))[-1].extra["tool_calls"] == [MEANT]
    old = {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": '{"x": 1}'}}
    (_, called) = turns_of("messages", {"messages": [{"role": "user", "content": "q"}, old]})
    assert called.extra["tool_calls"][0]["function"] == MEANT["function"]


def test_sharegpt_calls_and_observations() -> None:
    said = [
        ("human", "q"), ("function_call", '{"name": "f", "arguments": {"x": 1}}'), ("observation", "3"), ("gpt",
         "a")
    ]  # fmt: skip
    row = {"conversations": [{"from": who, "value": text} for who, text in said], "tools": '[{"name": "f"}]'}
    _, call, result, _ = turns_of("sharegpt", row)
    assert call.extra == {"tool_calls": [{"type": "function", "function": MEANT["function"]}]}
    assert (call.role, result.role, result.content) == ("assistant", "tool", "3")


def shared(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401  (any columns)
    """Return a row in ShareGPT form."""
    return {"conversations": [{"from": who, "value": value} for who, value in turns], **more}


F, G = '{"name": "f", "arguments": {"x": 1}}', '{"name": "g", "arguments": {}}'


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([("function_call", F), ("function_call", G)], ""),
        ([("function_call", f"[{F}, {G}]")], ""),
        ([("function_call", [json.loads(F), json.loads(G)])], ""),
        ([("gpt", "wait"), ("function_call", F), ("function_call", G)], "wait"),
        ([("function_call", f"<think>\nhm\n</think>\n\n{F}"), ("function_call", G)], "<think>\nhm\n</think>"),
        ([("function_call", f"<think>hm</think>[{F},{G}]")], "<think>hm</think>"),
    ],
)
def test_calls_of_one_answer_are_one_message(turns: list[tuple[str, Any]], said: str) -> None:
    results = [("observation", "1"), ("observation", "2"), ("gpt", "a")]
    _, call, *rest = turns_of("sharegpt", shared(("human", "q"), *turns, *results))
    assert call.content == said
    assert [one["function"]["name"] for one in call.extra["tool_calls"]] == ["f", "g"]
    assert [(one.role, one.content) for one in rest] == [("tool", "1"), ("tool", "2"), ("assistant", "a")]


def test_calls_as_messages_of_their_own_are_one() -> None:
    each = [{"role": "assistant", "content": None, "tool_calls": [CALL]} for _ in range(2)]
    row = {
        "messages": [
            {"role": "user", "content": "q"},
            *each,
            *messages(("tool", "1"), ("tool", "2"), ("assistant", "a"))["messages"],
        ]
    }
    assert turns_of("messages", row)[1].extra["tool_calls"] == [MEANT, MEANT]
    row["messages"][1]["weight"] = 0
    with pytest.raises(RowError, match="different weights"):
        turns_of("messages", row)


def test_calls_in_text_and_lost_calls_have_results() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    wrapped = "<tool_response>\n1\n</tool_response>\n<tool_response>2</tool_response>"
    row = shared(("human", "q"), ("gpt", text), ("tool", wrapped), ("gpt", "a"))
    assert parse("sharegpt", row) == [
        ("user", "q"), ("assistant", text), ("tool", "1"), ("tool", "2"), ("assistant", "a")
    ]  # fmt: skip
    lost = shared(("human", "q"), ("gpt", "好的，我来查。"), ("observation", "[]"), ("gpt", "a"))
    assert [role for role, _ in parse("sharegpt", lost)] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ([{"temp": 3}, {"temp": 4}], '[{"temp": 3}, {"temp": 4}]'),
        ([{"type": "hotel", "name": "酒店"}], '[{"type": "hotel", "name": "酒店"}]'),
        ([1, "a", None], '[1, "a", null]'),
        ([], "[]"),
        ({"a": 1}, '{"a": 1}'),
        (42, "42"),
        (True, "true"),
        ([{"type": "text", "text": "x"}, {"type": "text", "text": "y"}], "xy"),
    ],
)
def test_a_result_is_text_or_its_json(result: object, text: str) -> None:
    row = calling([CALL], ("tool", "1"), ("assistant", "a"))
    row["messages"][2]["content"] = result
    assert turns_of("messages", row)[2].content == text


def test_an_image_in_a_result_is_refused() -> None:
    row = calling([CALL], ("tool", "1"), ("assistant", "a"))
    row["messages"][2]["content"] = [{"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(RowError, match="images"):
        turns_of("messages", row)


@pytest.mark.parametrize("key", ["text", "value", "content"])
@pytest.mark.parametrize("kind", ["text", "input_text", "output_text"])
def test_text_parts_under_their_names(key: str, kind: str) -> None:
    said = [[{"type": kind, key: text}] for text in ("q", "a")]
    assert parse("messages", messages(("user", said[0]), ("assistant", said[1]))) == QA


@pytest.mark.parametrize(
    ("user", "bot"),
    [("human", "assistant"), ("user", "bot"), ("input", "output"), ("q", "a"), ("问题", "答案"), ("Question", "Answer"),
     ("prompt", "response"), ("用户", "助手")],
)  # fmt: skip
def test_turns_that_hold_question_and_answer(user: str, bot: str) -> None:
    talk = [{user: "q", bot: "a"}, {bot: "b", user: "r"}]
    row = {"conversation": talk}
    assert parse("sharegpt", row) == [*QA, ("user", "r"), ("assistant", "b")]
    alone = {"messages": [{user: "q"}, {bot: "a"}]}
    assert parse("messages", alone) == QA
    weighing = [{user: "q", bot: "a", "weight": 0}, talk[1]]
    assert [one.weight for one in turns_of("messages", {"messages": weighing})] == [None, 0.0, None, None]


def test_a_turn_that_holds_all_three_has_a_system_message() -> None:
    row = {
        "conversation": [
            {"system": "s", "input": "q", "output": "a"},
            {"system": "", "input": "r", "output": "b"},
        ]
    }
    assert parse("sharegpt", row) == [("system", "s"), *QA, ("user", "r"), ("assistant", "b")]
    with pytest.raises(RowError, match="two keys for the same speaker"):
        parse("sharegpt", {"conversation": [{"human": "q", "input": "r", "assistant": "a"}]})


@pytest.mark.parametrize("blank", [" ", "", "[]", None, [], "\n"])
def test_blank_tools_are_none(blank: object) -> None:
    made = FORMATS.load("sharegpt")().parse(Row(shared(("human", "q"), ("gpt", "a"), tools=blank), "x", 1))
    assert isinstance(made, Conversation) and made.tools == ()


def test_sharegpt_with_the_keys_of_messages_and_the_other_way() -> None:
    assert parse("sharegpt", {"conversations": messages(*QA)["messages"]}) == QA
    row = {"messages": [{"from": "用户", "value": "q"}, {"from": "助手", "value": "a"}]}
    assert parse("messages", row) == QA


def test_reasoning_weights_and_train_flags() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "q", "weight": None, "name": "Li"},
            {"role": "assistant", "content": "a", "train": False, "reasoning_content": "hm"},
            {"role": "user", "content": "r", "tool_calls": None},
            {"role": "assistant", "content": "b", "weight": 0.5},
            {"role": "user", "content": "s"},
            {"role": "assistant", "content": "c", "weight": True, "thinking": "ok"},
        ]
    }
    made = turns_of("messages", row)
    assert [message.weight for message in made] == [None, 0.0, None, 0.5, None, 1.0]
    assert [dict(m.extra) for m in made if m.extra] == [
        {"name": "Li"}, {"reasoning_content": "hm"}, {"reasoning_content": "ok"}
    ]  # fmt: skip
    assert len(set(made)) == 6


@pytest.mark.parametrize(
    ("name", "off", "on"),
    [("weight", 0, 1), ("loss_weight", 0.0, 1.0), ("loss_scale", 0, "1"), ("train", False, True),
     ("training", False, "true"), ("output_with_loss", False, True), ("loss", 0, 1), ("loss_mask", 0, 1)],
)  # fmt: skip
def test_a_turns_weight_under_each_of_its_names(name: str, off: object, on: object) -> None:
    talk = messages(*QA, *QA)["messages"]
    talk[1][name], talk[3][name] = off, on
    assert [one.weight for one in turns_of("messages", {"messages": talk})] == [None, 0.0, None, 1.0]
    shared_talk = shared(*QA, *QA)
    shared_talk["conversations"][1][name] = off
    assert [one.weight for one in turns_of("sharegpt", shared_talk)] == [None, 0.0, None, None]


@pytest.mark.parametrize(
    "form_and_fields",
    [
        ("alpaca", {"instruction": "q", "output": "a"}),
        ("messages", messages(*QA)),
        ("sharegpt", shared(*QA)),
        ("prompt_completion", {"prompt": "q", "completion": "a"}),
        ("question_answer", {"question": "q", "answer": "a"}),
        ("instruction_response", {"query": "q", "response": "a"}),
    ],
    ids=lambda value: value[0],
)
@pytest.mark.parametrize("name", ["weight", "loss_weight", "loss_scale"])
def test_a_rows_weight_is_that_of_its_answers(form_and_fields: tuple[str, dict[str, Any]], name: str) -> None:
    form, fields = form_and_fields
    assert [one.weight for one in turns_of(form, {**fields, name: 0.25})] == [None, 0.25]
    assert [one.weight for one in turns_of(form, {**fields, "train": True})] == [None, 1.0]
    for bad, said in ((-1, "below 0"), (1e39, "above 10,000"),
                      (float("nan"), "not a finite"), (float("inf"), "not a finite"), ("x", "not a finite"),
                      (0, "none of its answers is trained"), ([1, 0], "not a finite"),
                      (10**5000, "not a finite")):  # fmt: skip
        with pytest.raises(RowError, match=said):
            turns_of(form, {**fields, name: bad})


def test_a_rows_weight_multiplies_its_turns_weights() -> None:
    talk = messages(*QA, *QA)["messages"]
    talk[1]["weight"] = 0.5
    row = {"messages": talk, "weight": 0.5}
    assert [one.weight for one in turns_of("messages", row)] == [None, 0.25, None, 0.5]


def test_a_mask_of_turns_weighs_them() -> None:
    talk = messages(*QA, *QA)
    made = turns_of("messages", {**talk, "loss_mask": [0, 0, 0, 1], "system": "s"})
    assert [one.weight for one in made] == [None, None, 0.0, None, 1.0]
    pairs = {"conversation": [{"human": "q", "assistant": "a"}] * 2, "loss_mask": [0, 1]}
    assert [one.weight for one in turns_of("sharegpt", pairs)][1::2] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("form", "fields", "reason"),
    [
        ("messages", {**messages(*QA), "loss_mask": [1]}, "not have one number per turn"),
        ("messages", {**messages(*QA), "loss_mask": 1}, "'loss_mask' must be a list, not a number"),
        ("messages", {**messages(*QA), "loss_mask": [0, 2]}, "neither 0 nor 1"),
        ("messages", {**messages(*QA), "loss_mask": [False, True]}, "true or false, whose meaning differs"),
        ("sharegpt", {"conversation": [{"human": "q", "assistant": "a", "weight": 0, "loss": True}]},
         "weights contradict each other"),
        ("alpaca", {"instruction": "q", "output": "a", "loss_mask": [1]}, "'loss_mask' holds"),
        ("alpaca", {"instruction": "q"}, "'output' is missing"),
        ("alpaca", {"instruction": "q", "output": None}, "'output' must be text, not null"),
        ("alpaca", {"instruction": "q", "output": True}, "'output' must be text, not true or false"),
        ("alpaca", {"instruction": "q", "output": float("nan")}, "'output' must be text, not null"),
        ("alpaca", {"instruction": "q", "output": 10**5000}, "'output' is a number with too many digits"),
        ("alpaca", {"instruction": ["q"], "output": "a"}, "'instruction' must be text, not a list"),
        ("alpaca", {"instruction": "q", "output": " \n"}, "an answer is empty"),
        ("alpaca", {"instruction": "", "output": "a"}, "a question is empty"),
        ("alpaca", {"instruction": "q", "output": "a", "history": "x"}, "'history' must be a list, not text"),
        ("alpaca", {"instruction": "q", "output": "a", "history": [["x"]]}, "[question, answer] pairs"),
        ("alpaca", {"instruction": "q", "output": "a", "history": [["x", []]]}, "an item of 'history' must be text"),
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
        ("messages", messages(("system", "s"), ("system", "t"), *QA), "two system messages"),
        ("messages", messages(("user", "q"), ("system", "s"), ("assistant", "a")), "out of order"),
        ("messages", messages(("wizard", "q"), ("assistant", "a")), "the role 'wizard' is unknown"),
        ("messages", messages(("user", "q"), *QA), "out of order: two questions in a row"),
        ("messages", messages(*QA, ("assistant", "a")), "out of order: two answers in a row"),
        ("messages", messages(("assistant", "a")), "out of order: it begins with an answer"),
        ("messages", messages(("tool", "q"), ("assistant", "a")),
         "out of order: it begins with a tool's result"),
        ("messages", messages(("user", "q"), ("tool", "t"), ("assistant", "a")),
         "a tool's result without a call"),
        ("messages", {"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]},
         "a tool call is a number"),
        ("messages", calling([{"function": {"arguments": {}}}]), "a tool call has no 'name'"),
        ("messages", calling([{"function": {"name": "f", "arguments": "{"}}]), "not a JSON object"),
        ("messages", calling([{"function": {"name": "f", "arguments": "x"}}]),
         "a tool call's 'arguments' is text, not an object"),
        ("messages", calling([CALL], ("user", "q"), ("assistant", "a")), "a call without its result"),
        ("messages", calling([CALL], ("assistant", "a")), "a call without its result"),
        ("messages", calling([CALL], ("tool", "t"), ("user", "q"), ("assistant", "a")),
         "result without an answer"),
        ("messages", calling([CALL], ("tool", "t")), "ends with a tool's result"),
        ("messages", calling("x"), "'tool_calls' must be a list, not text"),
        ("messages", {"messages": [{**messages(*QA)["messages"][0], "tool_calls": [CALL]}]},
         "not the assistant's calls"),
        ("messages", {**messages(*QA), "tools": [1]}, "a tool in 'tools' is a number"),
        ("messages", {**messages(*QA), "tools": [{}]}, "a tool in 'tools' has no 'name'"),
        ("messages", {**messages(*QA), "tools": "[{"}, "not a JSON list"),
        ("messages", weighted(-1), "'weight' is below 0"),
        ("messages", weighted(float("nan")), "not a finite number"),
        ("messages", weighted("much"), "not a finite number"),
        ("messages", weighted(0), "none of its answers is trained"),
        ("messages", messages(("user", "q\ud800"), ("assistant", "a")), "a lone surrogate"),
        ("messages", {**messages(("system", "s"), *QA), "system": "t"}, "two system messages"),
        ("messages", {**messages(*QA), "task": []}, "'task' must be a name, not a list"),
        ("messages", messages(("user", [{"type": "image_url"}]), ("assistant", "a")), "images"),
        ("messages", messages(("user", ["q"]), ("assistant", "a")), "a part of a turn's 'content' is text"),
        ("messages", messages(("user", False), ("assistant", "a")), "'content' must be text, not true or false"),
        ("sharegpt", {"conversations": [{"from": "human", "value": None}]}, "a turn's 'value' must be text, not null"),
        ("messages", calling([{"function": {"name": "f\ud800"}}]), "a tool call holds half a character"),
        ("prompt_completion", {"prompt": "q", "completion": "a", "weight": 0}, "none of its answers is trained"),
        ("prompt_completion", {"prompt": "q"}, "'completion' is missing"),
        ("question_answer", {"question": "", "context": "c", "answer": "a"}, "a question is empty"),
        ("question_answer", {"question": "q", "answers": {"text": []}}, "'answers' is an empty list"),
        ("question_answer", {"question": "q", "answers": [[]]}, "the first of 'answers' must be text, not a list"),
        ("instruction_response", {"prompt": "q"}, "'response' or 'answer' or"),
        ("sharegpt", {"conversations": [{"from": "human"}]}, "a turn has no 'value'"),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "f()"}]},
         "a tool call is text"),
    ],
)  # fmt: skip
def test_bad_rows_have_their_reason(form: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse(form, fields)
    assert reason in caught.value.reason


def test_a_system_message_said_twice_is_kept_once() -> None:
    twice = messages(("system", "s"), ("system", "s"), *QA)
    beside = {**messages(("system", "s"), *QA), "system": "s"}
    for fields in (twice, beside):
        made = FORMATS.load("messages")().parse(Row(fields, "x.json", 1))
        assert isinstance(made, Conversation)
        assert [message.role for message in made.messages].count("system") == 1


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("alpaca", {"instruction": "q", "output": "a", "reasoning_content": "hm"}),
        ("question_answer", {"question": "q", "answer": "a", "reasoning_content": "hm"}),
        ("instruction_response", {"question": "q", "Complex_CoT": "hm", "response": "a"}),
    ],
)
def test_a_thought_in_a_column_of_its_own_is_the_answers(form: str, fields: dict[str, Any]) -> None:
    question, answer = turns_of(form, fields)
    assert (answer.content, answer.extra) == ("a", {"reasoning_content": "hm"})
    assert not question.extra
    name = next(name for name in fields if name in ("reasoning_content", "Complex_CoT"))
    assert not turns_of(form, {**fields, name: " "})[1].extra
    both = {key: f"<think>x</think>{value}" if value == "a" else value for key, value in fields.items()}
    with pytest.raises(RowError, match="and so does the answer"):
        turns_of(form, both)


def test_a_prompt_beside_content_is_not_left_out() -> None:
    row = Row({"input": "q", "content": "a", "id": "1"}, "x", 1)
    with pytest.raises(RowError, match="'input' holds text of the prompt"):
        FORMATS.load("plain_text")().parse(row)
    assert FORMATS.load("plain_text")().parse_noting(row, named=True)[1] == ["input", "id"]
