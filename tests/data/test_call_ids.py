"""Calls and results get the ids their template wants: made, matched, the same in training and in serving."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tagged_templates import tagged_tokenizer
from template_zoo import talk, tokenizer
from weitiao.data.conversation import Conversation, Message, Row
from weitiao.data.formats import FORMATS
from weitiao.data.templates.call_ids import CallIds
from weitiao.data.templates.template import choose_template

SHORT = CallIds(are_wanted=True, are_short=True)
ANY = CallIds(are_wanted=True)
NINE = re.compile("[A-Za-z0-9]{9}")


def calling(*calls: tuple[str, str | None]) -> Message:
    """Make an answer that calls functions by name, with ids or without."""
    made = [
        {
            "type": "function",
            **({"id": own} if own else {}),
            "function": {"name": name, "arguments": {"a": name}},
        }
        for name, own in calls
    ]
    return Message("assistant", "", extra={"tool_calls": made})


def result(own: str | None = None, name: str | None = None) -> Message:
    """Make a result with an id and a name, or without."""
    extra = {**({"tool_call_id": own} if own else {}), **({"name": name} if name else {})}
    return Message("tool", f"result {own} {name}", extra=extra)


def ids_in(messages: Any) -> tuple[list[str], list[str]]:  # noqa: ANN401
    """Return the ids of calls and of results."""
    calls = [call["id"] for message in messages for call in message.extra.get("tool_calls", ())]
    return calls, [message.extra["tool_call_id"] for message in messages if message.role == "tool"]


ASKS = Message("user", "go")
ONE = [
    (ASKS, calling(("f", None)), result()),
    (ASKS, calling(("f", "call_1234567890")), result("call_1234567890")),
    (ASKS, calling(("f", None)), result("call_1")),
    (ASKS, calling(("f", "call_1")), result()),
    (ASKS, calling(("f", "call_1")), result("call_other")),
    (ASKS, calling(("f", "abcdefghi")), result("abcdefghi")),
    (ASKS, calling(("f", "1")), result("1", "f")),
    (ASKS, calling(("f", "call-ü")), result("call-ü")),
]
SEVERAL = [
    (ASKS, calling(("f", None), ("g", None)), result(), result()),
    (ASKS, calling(("f", "a"), ("g", "b")), result("a"), result("b")),
    (ASKS, calling(("f", None), ("g", None)), result("x1"), result("x2")),
    (ASKS, calling(("f", None), ("f", None)), result(), result()),
]


@pytest.mark.parametrize("messages", [*ONE, *SEVERAL])
@pytest.mark.parametrize("wanted", [SHORT, ANY], ids=["nine signs", "any"])
def test_results_have_the_ids_of_their_calls(messages: tuple[Message, ...], wanted: CallIds) -> None:
    calls, results = ids_in(wanted.given_to(messages))
    assert calls == results
    assert len(set(calls)) == len(calls)
    if wanted.are_short:
        assert all(NINE.fullmatch(one) for one in calls)
    assert [message.content for message in wanted.given_to(messages)] == [m.content for m in messages]


def test_results_in_another_order_are_matched_by_id_and_by_name() -> None:
    calls, results = ids_in(SHORT.given_to((ASKS, calling(("f", "a"), ("g", "b")), result("b"), result("a"))))
    assert results == calls[::-1]
    by_name = (ASKS, calling(("f", None), ("g", None)), result(name="g"), result(name="f"))
    calls, results = ids_in(SHORT.given_to(by_name))
    assert results == calls[::-1]


def test_ids_that_fit_stay_and_equal_ids_stay_equal() -> None:
    assert ids_in(ANY.given_to(ONE[1]))[0] == ["call_1234567890"]
    assert ids_in(SHORT.given_to(ONE[5]))[0] == ["abcdefghi"]
    assert CallIds().given_to(ONE[0]) is ONE[0]
    assert SHORT.given_to(talk("a", "b").messages) == talk("a", "b").messages


def test_more_and_fewer_results_than_calls() -> None:
    calls, results = ids_in(SHORT.given_to((ASKS, calling(("f", None)), result(), result())))
    assert results[0] == calls[0]
    assert len(set(results)) == 2
    assert ids_in(SHORT.given_to((ASKS, calling(("f", None), ("g", None)))))[1] == []


def test_results_of_calls_that_are_text_get_ids() -> None:
    turns = (
        ASKS,
        Message("assistant", "[TOOL_CALLS][{}]"),
        result(),
        result("call_7"),
        Message("assistant", "Done."),
    )
    _, results = ids_in(SHORT.given_to(turns))
    assert all(NINE.fullmatch(one) for one in results)
    assert len(set(results)) == 2
    assert choose_template(tagged_tokenizer("mistral")).render(Conversation(turns, "x:1"))


def test_later_calls_have_ids_of_their_own_and_beginnings_the_same() -> None:
    turns = (*ONE[0], Message("assistant", "ok"), *ONE[0], Message("assistant", "ok"))
    calls, results = ids_in(SHORT.given_to(turns))
    assert calls == results
    assert len(set(calls)) == 2
    assert ids_in(SHORT.given_to(turns[:4]))[0] == calls[:1]


@pytest.mark.parametrize("messages", [*ONE, *SEVERAL])
@pytest.mark.parametrize("name", ["mistral", "kimi"])
def test_templates_that_want_ids_get_them(name: str, messages: tuple[Message, ...]) -> None:
    own = tagged_tokenizer(name)
    template = choose_template(own)
    one = Conversation((*messages, Message("assistant", "Done.")), "x:1")
    (sequence,) = template.render(one)
    text = own.decode(list(sequence.ids))
    calls, _ = ids_in(template.call_ids.given_to(one.messages))
    assert all(text.count(call) >= 2 for call in calls)
    prompt = template.prompt(one.messages[:-1]).ids
    assert sequence.ids[: len(prompt)] == prompt
    assert template.render(one) == choose_template(own).render(one)


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "llama3.1", "chatml"])
def test_templates_that_write_no_ids_get_none(name: str) -> None:
    assert choose_template(tokenizer(name)).call_ids == CallIds()


@pytest.mark.parametrize("number", ["call_1234567890", None])
def test_rows_as_people_have_them_are_trained_with_such_a_template(number: str | None) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"t": "a"}}}
    given = {"tool_call_id": number} if number else {}
    turns = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [{**call, "id": number} if number else call]},
        {"role": "tool", "content": "ok", **given},
        {"role": "assistant", "content": "Done."},
    ]
    form = FORMATS.load("messages")().parse(
        Row({"messages": turns, "tools": [{"name": "f"}]}, "rows.jsonl", 1)
    )
    (made,) = choose_template(tagged_tokenizer("mistral")).render_many([form])  # type: ignore[list-item]
    assert isinstance(made, list)
    assert "[TOOL_CALLS]" in tagged_tokenizer("mistral").decode(list(made[0].ids))
