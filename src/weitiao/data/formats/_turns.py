"""Parses turns of the many kinds of chat data: roles, content parts, tool calls and weights; checks their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ...core.lists import name_list
from ..conversation import Conversation, Message, Role, Row
from ._base import (
    RowError,
    first_of,
    kind_of,
    list_in,
    missing,
    said_in_text,
    shortened_value,
    text_in,
    text_of,
    unpacked,
)
from ._calls import call_of, calls_said, json_text, results_of, with_calls_joined
from ._fields import is_empty, noted_within
from ._results import with_results_in_order
from ._weights import masked, weight_in, weighted

SYNONYMS: Mapping[Role, Sequence[str]] = {
    "system": name_list("system developer 系统"),
    "user": name_list("user human 用户 提问者"),
    "assistant": name_list(
        "assistant gpt bot model chatgpt bing bard ai chatbot 助手 机器人 function_call tool_call"
    ),
    "tool": name_list("tool function observation ipython tool_response function_response tool_result 工具"),
}
"""A role -> its names in other data."""
ROLES: Mapping[str, Role] = {name: role for role, names in SYNONYMS.items() for name in names}
CALLING = {"function_call", "tool_call"}
"""ShareGPT's names for an assistant turn whose text is a tool call."""
EXCHANGES: Mapping[str, Role] = {
    **{name: role for name, role in ROLES.items() if role != "tool" and name not in CALLING},
    **dict.fromkeys(
        ("input", "question", "prompt", "query", "instruction", "q", "问题", "问", "提问"), "user"
    ),
    **dict.fromkeys(("output", "answer", "response", "a", "答案", "回答", "答"), "assistant"),
}
"""Keys of a turn that holds both a question and its answer, as in Firefly, XTuner and Capybara -> the role."""
SPEAKING: tuple[Role, ...] = ("system", "user", "assistant")
REASONING = ("reasoning_content", "reasoning", "thinking")
PART_TEXTS = ("text", "value", "content")
MEDIA = ("image", "audio", "video", "file", "document")
"""How the type of a content part that is not text begins, after an optional `input_` or `output_`."""

Spoken = Literal["start", "user", "assistant", "call", "tool"]
FOLLOWS: Mapping[Spoken, set[Role]] = {
    "start": {"user"},
    "user": {"assistant"},
    # A tool result may follow plain text: Hermes writes calls as text, and some calls are missing in Glaive's data.
    "assistant": {"user", "tool"},
    "call": {"tool"},
    "tool": {"tool", "assistant"},
}
FAULTS: Mapping[tuple[Spoken, Role], str] = {
    ("start", "assistant"): "it begins with an answer",
    ("start", "tool"): "it begins with a tool's result",
    ("user", "user"): "two questions in a row",
    ("user", "tool"): "a tool's result without a call",
    ("assistant", "assistant"): "two answers in a row",
    ("call", "user"): "a call without its result",
    ("call", "assistant"): "a call without its result",
    ("tool", "user"): "a tool's result without an answer",
}
ENDS: Mapping[Role, str] = {"user": "it ends with a question", "tool": "it ends with a tool's result"}


def messages_in(fields: Mapping[str, Any], column: str) -> list[Message]:
    """Return the messages of a column's list of turns; raises RowError."""
    turns = list_in(fields, column)
    return masked(
        [turn_of(turn, number, column, fields) for number, turn in enumerate(turns, start=1)], fields
    )


def turn_of(turn: object, number: int, column: str, fields: Mapping[str, Any]) -> list[Message]:
    """Return the messages of one item in a list of turns: usually one, but several for a question with its answer or
    for tagged tool results; raises RowError.

    `number` is the item's position from 1, for the error.
    """
    if not isinstance(turn, dict):
        raise RowError(f"a turn in {column!r} is {kind_of(turn)}, not an object", f"turn {number}")
    if "role" in turn or "from" in turn:
        return results_of(_message(turn, number, column, fields))
    said = {name: role for name in turn if (role := EXCHANGES.get(str(name).strip().lower()))}
    if not said:
        raise missing_role(turn)
    return _exchange(noted_within(fields, column, turn), said)


def missing_role(turn: Mapping[str, Any]) -> RowError:
    """Return the error for a turn without a role."""
    return missing("a turn's 'role'", turn)


def _exchange(turn: Mapping[str, Any], said: Mapping[str, Role]) -> list[Message]:
    """Return system message, question and answer of a turn that holds them together; raises RowError if two keys have
    the same role.
    """
    by_role: dict[Role, str] = {}
    for name, role in said.items():
        if is_empty(turn.get(name)) and role == "system":
            continue
        if role in by_role:
            raise RowError("a turn has two keys for the same speaker", ", ".join(map(repr, said)))
        by_role[role] = said_in_text(turn[name], f"a turn's {name!r}")
    if "input" in said and not by_role.get("user", "").strip() and by_role.get("assistant", "").strip():
        raise RowError('a turn has no question; to train on plain text, as in XTuner, write {"text": "..."}')
    weight = weight_in(turn, "a turn's ")
    return [
        Message(role, by_role[role], weight if role == "assistant" else None)
        for role in SPEAKING
        if role in by_role
    ]


def _message(turn: dict[str, Any], number: int, column: str, row: Mapping[str, Any]) -> Message:
    """Return the message of a turn with a role; raises RowError."""
    role_key = "from" if "from" in turn and "role" not in turn else "role"
    text_key = "value" if "value" in turn and "content" not in turn else "content"
    written = text_in(turn, role_key, "a turn's ")
    plain = written if written in ROLES else written.strip().lower()
    if plain not in ROLES:
        raise RowError(
            f"the role {shortened_value(written)} is unknown", f"known roles are {', '.join(SYNONYMS)}"
        )
    role = ROLES[plain]
    if len(turn) == 2 and isinstance(turn.get(text_key), str) and plain not in CALLING:
        return Message(role, text_of(turn[text_key], f"a turn's {text_key!r}"))
    fields = noted_within(row, column, turn)
    fields.get(role_key)  # read so that it does not count as unused
    extra = _extra(fields, role)
    weight = weight_in(fields, "a turn's ")
    if plain in CALLING:
        thought, calls = calls_said(fields, text_key)
        return Message(role, thought, weight, {**extra, "tool_calls": calls})
    if turn.get(text_key) is None and extra.get("tool_calls"):
        return Message(role, "", weight, extra)
    if text_key not in turn:
        wanted = "value" if role_key == "from" else "content"
        raise RowError(f"a turn has no {wanted!r}", f"turn {number} has {', '.join(map(repr, turn))}")
    return Message(role, _content(fields, text_key, role), weight, extra)


def _content(turn: Mapping[str, Any], key: str, role: Role) -> str:
    """Return a turn's text: text parts are joined, a tool result that is not text becomes JSON; raises RowError for
    other parts.
    """
    content = turn[key]
    if isinstance(content, list) and not (role == "tool" and _is_result(content)):
        return "".join(_part(part, turn, key) for part in content)
    if role == "tool" and not isinstance(content, str) and content is not None:
        return json_text(content, f"a turn's {key!r}")
    return said_in_text(content, f"a turn's {key!r}")


def _is_result(content: Sequence[object]) -> bool:
    """Return whether a list is itself a tool's result, rather than a list of content parts."""
    return not any(isinstance(part, dict) and _is_part(part) for part in content)


def _is_part(part: Mapping[str, Any]) -> bool:
    kind = str(part.get("type", "")).removeprefix("input_").removeprefix("output_")
    return (
        kind == "text" and any(isinstance(part.get(name), str) for name in PART_TEXTS)
    ) or kind.startswith(MEDIA)


def _part(part: object, turn: Mapping[str, Any], key: str) -> str:
    if not isinstance(part, dict):
        raise RowError(f"a part of a turn's 'content' is {kind_of(part)}, not an object")
    fields = noted_within(turn, key, part)
    kind = fields.get("type", "text" if len(part) == 1 else None)
    if kind not in ("text", "input_text", "output_text"):
        raise RowError(
            "it holds images or other parts that are not text, which cannot be trained on yet", f"{kind!r}"
        )
    return text_in(fields, first_of(PART_TEXTS, fields) or "text", "a turn's ")


def _extra(turn: Mapping[str, Any], role: Role) -> dict[str, Any]:
    """Return the keys that chat templates read besides role and content; raises RowError."""
    extra: dict[str, Any] = {}
    for name in ("name", "tool_call_id"):
        if not is_empty(turn.get(name)):
            extra[name] = said_in_text(turn[name], f"a turn's {name!r}")
    if role == "assistant" and (thought := first_of(REASONING, turn)) and not is_empty(turn[thought]):
        extra["reasoning_content"] = text_in(turn, thought, "a turn's ")
    given = turn.get("tool_calls")
    calls = [] if is_empty(given) else unpacked(given, "tool_calls")
    if not isinstance(calls, list):
        raise RowError(f"a turn's 'tool_calls' must be a list, not {kind_of(calls)}", shortened_value(calls))
    if not is_empty(turn.get("function_call")):
        calls = [*calls, turn["function_call"]]
    if calls and role != "assistant":
        raise RowError("a turn that is not the assistant's calls tools", f"its role is {role}")
    return {**extra, "tool_calls": [call_of(call, turn) for call in calls]} if calls else extra


def system_in(fields: Mapping[str, Any]) -> str:
    """Return the text of `system` or `system_prompt`, "" if there is none; raises RowError."""
    name = first_of(("system", "system_prompt"), fields)
    return text_in(fields, name) if name else ""


def with_system_turn(fields: Mapping[str, Any], turns: Sequence[Message]) -> list[Message]:
    """Return turns with the row's system message, if it has one, in front; raises RowError."""
    system = system_in(fields)
    return [Message("system", system), *turns] if system.strip() else list(turns)


def _once(turns: Sequence[Message]) -> Sequence[Message]:
    """Return turns without repetitions of an equal system message at the beginning."""
    while len(turns) > 1 and turns[0].role == "system" and turns[0] == turns[1]:
        turns = turns[1:]
    return turns


def conversation(
    turns: Sequence[Message], row: Row, tools: tuple[Mapping[str, Any], ...] = ()
) -> Conversation:
    """Return the conversation of a row's turns, with checked order and weights; raises RowError if it cannot be
    trained on."""
    kept = tuple(weighted(checked_turns(turns), row.fields))
    if all(message.weight == 0 for message in kept if message.role == "assistant"):
        raise RowError("none of its answers is trained (every weight is 0)")
    return Conversation(kept, row.place, tools=tools)


def checked_turns(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Return turns with tool calls merged and results in order; raises RowError for a wrong order of turns, or an empty
    question or answer.

    An empty system message is kept: without it, some chat templates insert a default one.
    """
    turns = with_results_in_order(with_calls_joined(_once(turns)))
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
    """Raise RowError unless the order is: at most one system message, then alternating questions and answers, with tool
    results after calls."""
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
            fault = FAULTS.get((before, role), "a system message comes after the first turn")
            raise RowError(f"its turns are out of order: {fault}", f"turn {index + 1} is {role}")
        before = _spoken(turns[index])
    if roles[-1] in ENDS:
        raise RowError(ENDS[roles[-1]], "the last turn must be the assistant's")


def _spoken(message: Message) -> Spoken:
    if message.role == "assistant":
        return "call" if message.extra.get("tool_calls") else "assistant"
    return "tool" if message.role == "tool" else "user"
