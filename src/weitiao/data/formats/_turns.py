"""Turns as the many kinds of chat data write them: roles, parts, tool calls, weights, and their order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..conversation import Conversation, Message, Role, Row
from ._base import (
    NO_JSON_NUMBER,
    RowError,
    kind_of,
    list_in,
    number_of,
    shortened,
    text_in,
    text_of,
    truth_of,
    unpacked,
)

SYNONYMS: Mapping[Role, str] = {
    "system": "system developer 系统",
    "user": "user human 用户 提问者",
    "assistant": "assistant gpt bot model chatgpt bing bard ai chatbot 助手 机器人 function_call tool_call",
    "tool": "tool function observation ipython tool_response function_response tool_result 工具",
}
"""A role -> the names it goes by."""
ROLES: Mapping[str, Role] = {name: role for role, names in SYNONYMS.items() for name in names.split()}
CALLING = {"function_call", "tool_call"}
"""ShareGPT's names for a turn of the assistant whose text is a call."""
REASONING = ("reasoning_content", "reasoning", "thinking")
TOOLS = ("tools", "functions")
"""Columns with the functions that may be called."""
TRAINED = ("train", "loss")
"""True or false: whether a turn is trained (axolotl's and ms-swift's names)."""

Spoken = Literal["start", "user", "assistant", "call", "tool"]
FOLLOWS: Mapping[Spoken, set[Role]] = {
    "start": {"user"},
    "user": {"assistant"},
    "assistant": {"user"},
    "call": {"tool"},
    "tool": {"tool", "assistant"},
}
FAULTS: Mapping[tuple[Spoken, Role], str] = {
    ("start", "assistant"): "it begins with an answer",
    ("start", "tool"): "it begins with a tool's result",
    ("user", "user"): "two questions in a row",
    ("user", "tool"): "a tool's result without a call",
    ("assistant", "assistant"): "two answers in a row",
    ("assistant", "tool"): "a tool's result without a call",
    ("call", "user"): "a call without its result",
    ("call", "assistant"): "a call without its result",
    ("tool", "user"): "a tool's result without an answer",
}
ENDS: Mapping[Role, str] = {"user": "it ends with a question", "tool": "it ends with a tool's result"}


def messages_in(fields: Mapping[str, Any], column: str) -> list[Message]:
    """Return a column's turns, role and content or from and value; raises RowError."""
    turns = list_in(fields, column)
    return [message_of(turn, number, column) for number, turn in enumerate(turns, start=1)]


def message_of(turn: object, number: int, column: str) -> Message:
    """Return one turn; raises RowError, which names it by its number."""
    if not isinstance(turn, dict):
        raise RowError(f"a turn in {column!r} is {kind_of(turn)}, not an object", f"turn {number}")
    role_key = "from" if "from" in turn and "role" not in turn else "role"
    text_key = "value" if "value" in turn and "content" not in turn else "content"
    written = text_in(turn, role_key, "a turn's ")
    plain = written if written in ROLES else written.strip().lower()
    if plain not in ROLES:
        raise RowError(f"the role {shortened(written)} is unknown", "known are " + ", ".join(ROLES))
    role = ROLES[plain]
    if len(turn) == 2 and text_key in turn and plain not in CALLING:
        return Message(role, _content(turn, text_key, role))
    extra = _extra(turn, role)
    if plain in CALLING:
        said = unpacked(text_in(turn, text_key, "a turn's "), text_key)
        calls = said if isinstance(said, list) else [said]
        return Message(role, "", _weight(turn), {**extra, "tool_calls": [_call(call) for call in calls]})
    if turn.get(text_key) is None and extra.get("tool_calls"):
        return Message(role, "", _weight(turn), extra)
    if text_key not in turn:
        wanted = "value" if role_key == "from" else "content"
        raise RowError(f"a turn has no {wanted!r}", f"turn {number} has {', '.join(map(repr, turn))}")
    return Message(role, _content(turn, text_key, role), _weight(turn), extra)


def _content(turn: Mapping[str, Any], key: str, role: Role) -> str:
    """Return a turn's text, its text parts joined; raises RowError for parts of another kind."""
    content = turn[key]
    if isinstance(content, list):
        return "".join(map(_part, content))
    if isinstance(content, dict) and role == "tool":
        return json_text(content, f"a turn's {key!r}")
    return text_of(content, f"a turn's {key!r}")


def json_text(value: object, what: str) -> str:
    """Return a value as JSON text; raises RowError, which calls it `what`, for half a character in it, or a number
    that JSON has not."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError as error:
        raise RowError(f"{what} {NO_JSON_NUMBER}") from error
    return text_of(text, what)


def _part(part: object) -> str:
    if not isinstance(part, dict):
        raise RowError(f"a part of a turn's 'content' is {kind_of(part)}, not an object")
    kind = part.get("type")
    if kind != "text":
        raise RowError(
            "it holds images or other parts that are not text, which cannot be trained on yet", f"{kind!r}"
        )
    return text_in(part, "text", "a part's ")


def _extra(turn: Mapping[str, Any], role: Role) -> dict[str, Any]:
    """Return what chat templates read beside role and content; raises RowError."""
    extra: dict[str, Any] = {}
    for name in ("name", "tool_call_id"):
        if turn.get(name) is not None:
            extra[name] = text_in(turn, name, "a turn's ")
    for name in REASONING:
        if role == "assistant" and turn.get(name):
            extra["reasoning_content"] = text_in(turn, name, "a turn's ")
            break
    calls = unpacked(turn.get("tool_calls"), "tool_calls") or []
    if not isinstance(calls, list):
        raise RowError(f"a turn's 'tool_calls' is {kind_of(calls)} where a list was meant", shortened(calls))
    if turn.get("function_call"):
        calls = [*calls, turn["function_call"]]
    if calls and role != "assistant":
        raise RowError("a turn that is not the assistant's calls tools", f"its role is {role}")
    return {**extra, "tool_calls": [_call(call) for call in calls]} if calls else extra


def _call(call: object) -> dict[str, Any]:
    """Return a call as {type, id, function: {name, arguments}}, its arguments as an object; raises RowError."""
    call = unpacked(call, "tool_calls")
    if not isinstance(call, dict):
        raise RowError(f"a call of a tool is {kind_of(call)}, not an object", shortened(call))
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError("a call of a tool has no 'name'", shortened(call))
    arguments = function.get("arguments", function.get("parameters"))
    arguments = unpacked({} if arguments in (None, "") else arguments, "arguments")
    if not isinstance(arguments, dict):
        raise RowError(f"a call's 'arguments' is {kind_of(arguments)}, not an object", shortened(arguments))
    json_text(call, "a call of a tool")
    known = {"id": call["id"]} if call.get("id") is not None else {}
    return {"type": "function", **known, "function": {"name": function["name"], "arguments": arguments}}


def _weight(turn: Mapping[str, Any]) -> float | None:
    """Return the weight a turn names, None where it names none; raises RowError."""
    if turn.get("weight") is not None:
        return weight_of(turn["weight"], "a turn's 'weight'")
    for name in TRAINED:
        if turn.get(name) is not None:
            return float(truth_of(turn[name], f"a turn's {name!r}"))
    return None


def weight_of(value: object, what: str) -> float:
    """Return a loss weight, 0 or more, from a number, true or false; raises RowError, which calls it `what`."""
    weight = number_of(float(value) if isinstance(value, bool) else value, what)
    if weight < 0:
        raise RowError(f"{what} is below 0", shortened(value))
    return weight


def tools_in(fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the functions in `tools` (or `functions`), as JSON schemas; raises RowError."""
    name = "tools" if fields.get("tools") else "functions"
    if not fields.get(name):
        return ()
    found = unpacked(fields[name], name)
    tools = found if isinstance(found, list) else [found]
    for tool in tools:
        if not isinstance(tool, dict):
            raise RowError(f"a tool in {name!r} is {kind_of(tool)}, not an object", shortened(tool))
        if not isinstance(tool.get("function", tool), dict) or "name" not in tool.get("function", tool):
            raise RowError(f"a tool in {name!r} has no 'name'", shortened(tool))
    json_text(tools, repr(name))
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in tools)


def system_in(fields: Mapping[str, Any]) -> str:
    """Return the text of `system` or `system_prompt`, nothing where there is none; raises RowError."""
    for name in ("system", "system_prompt"):
        if fields.get(name) is not None:
            return text_in(fields, name)
    return ""


def with_system(fields: Mapping[str, Any], turns: Sequence[Message]) -> list[Message]:
    """Return turns behind the row's system message, where it has one; raises RowError."""
    system = system_in(fields)
    return [Message("system", system), *turns] if system.strip() else list(turns)


def _once(turns: Sequence[Message]) -> Sequence[Message]:
    """Leave out system messages at the beginning that say the same as the one before them."""
    while len(turns) > 1 and turns[0].role == "system" and turns[0] == turns[1]:
        turns = turns[1:]
    return turns


def conversation(
    turns: Sequence[Message], row: Row, tools: tuple[Mapping[str, Any], ...] = ()
) -> Conversation:
    """Make a conversation of turns; raises RowError where it cannot be trained on."""
    kept = checked_turns(turns)
    if all(message.weight == 0 for message in kept if message.role == "assistant"):
        raise RowError("no answer of it is trained (every weight is 0)")
    return Conversation(kept, row.place, tools=tools)


def checked_turns(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Return the turns; raises RowError for their order, or an empty question or answer.

    An empty system message stays: without it some chat templates write one of their own.
    """
    turns = _once(turns)
    _check_order(turns)
    for number, message in enumerate(turns, start=1):
        if message.role in ("user", "assistant") and not (
            message.content.strip() or message.extra.get("tool_calls")
        ):
            raise RowError(
                "an answer is empty" if message.role == "assistant" else "a question is empty",
                f"turn {number}",
            )
    return tuple(turns)


def _check_order(turns: Sequence[Message]) -> None:
    """Raise RowError unless it is: at most one system, then question and answer by turns, tools' results after
    calls."""
    roles = [message.role for message in turns]
    if roles.count("system") > 1:
        raise RowError("it has two system messages")
    if "assistant" not in roles:
        raise RowError("it has no answer (no assistant turn)")
    before: Spoken = "start"
    first = 1 if roles[0] == "system" else 0
    for index in range(first, len(turns)):
        role = roles[index]
        if role not in FOLLOWS[before]:
            fault = FAULTS.get((before, role), "a system message stands behind the first turn")
            raise RowError(f"its turns are out of order: {fault}", f"turn {index + 1} is {role}")
        before = _spoken(turns[index])
    if roles[-1] in ENDS:
        raise RowError(ENDS[roles[-1]], "the last turn must be the assistant's")


def _spoken(message: Message) -> Spoken:
    if message.role == "assistant":
        return "call" if message.extra.get("tool_calls") else "assistant"
    return "tool" if message.role == "tool" else "user"
