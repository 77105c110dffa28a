"""Tool definitions and tool calls, given as objects, as JSON text, or as separate turns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..conversation import Message
from ._base import RowError, first_of, kind_of, no_json_number, shortened_value, text_in, text_of, unpacked
from ._fields import is_empty, noted_within

TOOLS = ("tools", "functions")
"""Columns with the definitions of tools."""
THOUGHT = re.compile(r"\s*(<think>.*?</think>)\s*", re.DOTALL)
RESULTS = re.compile(r"\s*(?:<tool_response>.*?</tool_response>\s*)+", re.DOTALL)
RESULT = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
"""The result of a tool call inside the tags of Hermes and Qwen; the tags are removed, as their chat templates add
them."""


def json_text(value: object, what: str) -> str:
    """Return a value as JSON text; raises RowError, which names it `what`, for a lone surrogate or a number that JSON
    cannot represent."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError as error:
        raise RowError(no_json_number(what)) from error
    return text_of(text, what)


def call_of(call: object, turn: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool call as {type, id, function: {name, arguments}}, with arguments as an object; raises RowError."""
    call = unpacked(call, "tool_calls")
    if not isinstance(call, dict):
        raise RowError(f"a tool call is {kind_of(call)}, not an object", shortened_value(call))
    fields = noted_within(turn, "tool_calls", call)
    fields.get("type")  # read so that it does not count as unused
    function = fields.get("function", fields)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowError("a tool call has no 'name'", shortened_value(call))
    if function is not fields:
        function = noted_within(fields, "function", function)
    arguments = unpacked(_arguments(function), "arguments")
    if not isinstance(arguments, dict):
        raise RowError(
            f"a tool call's 'arguments' is {kind_of(arguments)}, not an object", shortened_value(arguments)
        )
    json_text(call, "a tool call")
    known = {"id": _id_of(fields["id"])} if call.get("id") is not None else {}
    return {"type": "function", **known, "function": {"name": function["name"], "arguments": arguments}}


def _id_of(own: object) -> object:
    """Return a call's id; a number becomes text, as it does in the id of the result."""
    return str(own) if type(own) is int and json_text(own, "a tool call's 'id'") else own


def _arguments(function: Mapping[str, Any]) -> object:
    name = first_of(("arguments", "parameters"), function)
    value = function[name] if name else None
    return {} if value is None or (isinstance(value, str) and not value.strip()) else value


def calls_said(turn: Mapping[str, Any], key: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the reasoning before a turn's calls, with its <think> tags, and the calls (one or a list) that make up the
    rest of the turn's text; raises RowError.
    """
    said = turn.get(key)
    if not isinstance(said, dict | list):
        said = text_in(turn, key, "a turn's ")
    thought = THOUGHT.match(said) if isinstance(said, str) else None
    found = unpacked(said[thought.end() :] if thought else said, key)
    calls = found if isinstance(found, list) else [found]
    return thought[1] if thought else "", [call_of(call, turn) for call in calls]


def results_of(message: Message) -> list[Message]:
    """Return a turn of tool results as one message per tagged result; any other turn as it is."""
    if message.role != "tool" or not RESULTS.fullmatch(message.content):
        return [message]
    return [replace(message, content=result) for result in RESULT.findall(message.content)]


def with_calls_joined(turns: Sequence[Message]) -> list[Message]:
    """Return turns with consecutive tool calls of one answer merged into one message; raises RowError if their weights
    differ.
    """
    joined: list[Message] = []
    for turn in turns:
        if joined and _continues(joined[-1], turn):
            if joined[-1].weight != turn.weight:
                raise RowError("the calls of one answer have different weights")
            joined[-1] = _with_calls_of(joined[-1], turn)
        else:
            joined.append(turn)
    return joined


def _continues(before: Message, turn: Message) -> bool:
    """Return whether a turn only adds tool calls to the answer before it."""
    both = before.role == turn.role == "assistant"
    only_calls = set(turn.extra) == {"tool_calls"} and not turn.content
    return both and only_calls and not set(before.extra) - {"tool_calls", "reasoning_content"}


def _with_calls_of(before: Message, turn: Message) -> Message:
    calls = [*before.extra.get("tool_calls", []), *turn.extra["tool_calls"]]
    return replace(before, extra={**before.extra, "tool_calls": calls})


def tools_in(fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the tool definitions in `tools` (or `functions`), as JSON schemas; raises RowError."""
    name = first_of(TOOLS, fields)
    if not name or is_empty(fields[name]):
        return ()
    found = unpacked(fields[name], name)
    tools = found if isinstance(found, list) else [found]
    for tool in tools:
        if not isinstance(tool, dict):
            raise RowError(f"a tool in {name!r} is {kind_of(tool)}, not an object", shortened_value(tool))
        if not isinstance(tool.get("function", tool), dict) or "name" not in tool.get("function", tool):
            raise RowError(f"a tool in {name!r} has no 'name'", shortened_value(tool))
    json_text(tools, repr(name))
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in tools)
