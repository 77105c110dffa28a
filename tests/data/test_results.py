"""Results of tools stand in the order of their calls, or the row is refused in words."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from weitiao.data.conversation import Conversation, Row
from weitiao.data.formats import FORMATS
from weitiao.data.formats._base import RowError

Turn = dict[str, Any]


def row(calls: list[tuple[str, str]], results: list[Turn]) -> Row:
    """Return a row whose one answer has calls (id, name), then results."""
    made = [
        {"function": {"name": name, "arguments": {}}, **({"id": own} if own else {})} for own, name in calls
    ]
    turns = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": made},
        *({"role": "tool", **one} for one in results),
        {"role": "assistant", "content": "done"},
    ]
    return Row({"messages": turns}, "x", 1)


def read(calls: list[tuple[str, str]], results: list[Turn]) -> list[str]:
    """Return the results in the order in which they are trained."""
    form = FORMATS.load("messages")().parse(row(calls, results))
    assert isinstance(form, Conversation)
    return [message.content for message in form.messages if message.role == "tool"]


CALLS = [("a", "f"), ("b", "g"), ("c", "f")]


@pytest.mark.parametrize("order", permutations("abc"))
def test_results_go_behind_their_calls_by_id(order: tuple[str, ...]) -> None:
    assert read(CALLS, [{"content": one, "tool_call_id": one} for one in order]) == ["a", "b", "c"]


def test_ids_that_are_numbers_are_read_as_texts() -> None:
    calls: list[Any] = [(1, "f"), (2, "g")]
    assert read(calls, [{"content": "g", "tool_call_id": 2}, {"content": "f", "tool_call_id": "1"}]) == [
        "f",
        "g",
    ]


def test_a_name_that_one_call_has_tells_it_too() -> None:
    calls = [("", "f"), ("", "g"), ("", "h")]
    assert read(calls, [{"content": one, "name": one} for one in "hfg"]) == ["f", "g", "h"]
    assert read(calls, [{"content": "h", "name": "h"}, {"content": "x"}, {"content": "y"}]) == ["x", "y", "h"]
    alike = [{"content": str(n), "name": "f"} for n in range(2)]
    assert read([("", "f"), ("", "f")], alike) == ["0", "1"]
    assert read(CALLS, [{"content": "b", "tool_call_id": "b"}, {"content": "x"}, {"content": "y"}]) == [
        "x",
        "b",
        "y",
    ]


@pytest.mark.parametrize(
    "results",
    [
        [{"content": "x"}],
        [{"content": "x", "name": "ipython"}],
        [{"content": "x"}, {"content": "y"}, {"content": "z"}, {"content": "more"}],
    ],
)
def test_what_names_no_call_stays_as_it_stands(results: list[Turn]) -> None:
    assert read(CALLS, results) == [one["content"] for one in results]
    assert read([("", "f")], [{"content": "x", "tool_call_id": "9"}]) == ["x"]


@pytest.mark.parametrize(
    ("calls", "ids", "reason"),
    [
        (CALLS, ["a", "b", "d"], "belongs to no call"),
        ([("a", "f")], ["b"], "belongs to no call"),
        (CALLS, ["a", "b", "b"], "two tool results have the same tool_call_id"),
        ([("a", "f"), ("a", "g")], ["a"], "two calls of one answer have the same id"),
        (CALLS, ["c", "a"], "a call without its result"),
    ],
)
def test_ids_that_tell_nothing_are_refused(calls: list[tuple[str, str]], ids: list[str], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read(calls, [{"content": one, "tool_call_id": one} for one in ids])


def test_an_id_may_come_again_in_a_later_answer() -> None:
    turns = row([("a", "f")], [{"content": "1", "tool_call_id": "a"}]).fields["messages"]
    form = FORMATS.load("messages")().parse(Row({"messages": [*turns, *turns]}, "x", 1))
    assert isinstance(form, Conversation) and len(form.messages) == 8
