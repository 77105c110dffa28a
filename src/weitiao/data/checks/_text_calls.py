"""Finds broken tool calls in an answer's text: calls that a server could not parse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

MARKS = (
    "tool_call", "function_call", "functioncall", "TOOL_CALLS]", "FUNCTION✿", "<function=", "python_tag|>", "<invoke",
    "Action Input:", "tool▁sep",
)  # fmt: skip
"""Every text with a tool call contains one of these."""
TAG = re.compile(r"<(/?)(tool_calls?|function_calls?)>", re.IGNORECASE)
OPEN_ENDED = re.compile(r"<functioncall>|\[TOOL_CALLS\]|<\|python_tag\|>", re.IGNORECASE)
"""Marks followed by a call without a closing tag (Glaive's, Mistral's, Llama's)."""
NAMED = re.compile(r"<function=[^>\n]{0,200}>(.*?)(</function>|\Z)", re.DOTALL)
"""Calls of Llama 3.1 and Qwen3-Coder."""
QWEN = re.compile(r"✿FUNCTION✿[^✿]{0,200}✿ARGS✿[:：]?(.*?)(?=✿RESULT✿|✿FUNCTION✿|\n✿|\Z)", re.DOTALL)
WITH_ENDS = (
    re.compile(r"<\|tool_call_argument_begin\|>(.*?)(<\|tool_call_end\|>|\Z)", re.DOTALL),
    re.compile(r"<｜tool▁sep｜>[^\n]{0,200}\n```json\n(.*?)```\s*(<｜tool▁call▁end｜>|\Z)", re.DOTALL),
)
"""Arguments as Kimi's and DeepSeek's templates write them."""
INPUT = re.compile(r"^Action Input:\s*(?=[{\[])", re.MULTILINE)
"""Arguments in the ReAct format (https://arxiv.org/abs/2210.03629)."""
ELEMENTS = ("invoke", "parameter", "arg_key", "arg_value")
"""Tags inside a call that is written without JSON."""
NO_JSON = ("<function=", "<arg_key>", "<invoke", "<parameter", "<tool_name>", "<name>")
"""Tags that show that a tagged call is written without JSON (Qwen3-Coder's, GLM's, Anthropic's)."""
PYTHON = re.compile(r"\[?\w+\(.*\)\]?", re.DOTALL)
"""A call in Python syntax."""
BEGINS, ENDS = ("{", "[", "<", '"'), ("}", "]", ">")
"""First and last characters of a call; a tag next to other text is only mentioned, not a call."""
ARGUMENTS = re.compile(r"\[ARGS\]")
THOUGHT_ENDS = "</think>"
DECODER = json.JSONDecoder()

NOT_CLOSED, NOT_OPENED = "its tag is not closed", "a closing tag without an opening one"
NOT_JSON, NO_NAME, EMPTY = (
    "its JSON cannot be read",
    "it names no function",
    "there is nothing between the tags",
)


def broken_call(text: str) -> str:
    """Return what is wrong with the first broken call in a text; "" if there is none."""
    if not any(mark in text for mark in MARKS):
        return ""
    said = text.rpartition(THOUGHT_ENDS)[2]
    return next(filter(None, _faults(said)), "")


def _faults(text: str) -> Iterator[str]:
    yield from _in_tags(text)
    for mark in OPEN_ENDED.finditer(text):
        yield _open_ended(text[mark.end() :].lstrip())
    for call in NAMED.finditer(text):
        inner = call[1].strip()
        if not call[2]:
            yield NOT_CLOSED
        elif inner.startswith(("{", "[")):
            yield "" if _json_of(inner) is not None else NOT_JSON
    for call in QWEN.finditer(text):
        yield "" if _json_of(call[1].strip()) is not None else NOT_JSON
    for call in (one for kind in WITH_ENDS for one in kind.finditer(text)):
        yield NOT_CLOSED if not call[2] else "" if isinstance(_json_of(call[1].strip()), dict) else NOT_JSON
    for mark in INPUT.finditer(text):
        yield _open_ended(text[mark.end() :], has_name=False)
    yield _unbalanced(text)


def _unbalanced(text: str) -> str:
    """Return what is wrong if an element of a call is opened more or less often than closed; else ""."""
    for name in ELEMENTS:
        opened = sum(text.count(f"<{name}{behind}") for behind in (" ", ">", "="))
        closed = text.count(f"</{name}>")
        if opened != closed:
            return NOT_CLOSED if opened > closed else NOT_OPENED
    return ""


def _in_tags(text: str) -> Iterator[str]:
    """Yield what is wrong with each call in tags, "" for a valid one. Tags may be nested: an outer pair may hold
    several calls."""
    opened: list[re.Match[str]] = []
    for tag in TAG.finditer(text):
        if not tag[1]:
            if opened and opened[-1][2].lower() == tag[2].lower():
                yield _unclosed(text, opened.pop())
            opened.append(tag)
        elif not opened or opened[-1][2].lower() != tag[2].lower():
            yield NOT_OPENED if text[: tag.start()].rstrip().endswith(ENDS) else ""
        else:
            yield _call(text[opened.pop().end() : tag.start()].strip())
    yield from (_unclosed(text, tag) for tag in opened)


def _unclosed(text: str, tag: re.Match[str]) -> str:
    rest = text[tag.end() :].lstrip()
    return NOT_CLOSED if not rest or rest.startswith(BEGINS) else ""


def _call(inner: str) -> str:
    """Return what is wrong with the text between two tags; "" if nothing."""
    if not inner:
        return EMPTY
    if TAG.search(inner) or any(mark in inner for mark in NO_JSON) or not set('{}[]"') & set(inner):
        return ""
    if PYTHON.fullmatch(inner):
        return ""
    found = _json_of(inner)
    if found is None:
        # There may be several calls, one per line.
        lines = [line for line in inner.splitlines() if line.strip()]
        return (
            next(filter(None, map(_call, lines)), "") if len(lines) > 1 and _each_whole(lines) else NOT_JSON
        )
    return _named(found)


def _each_whole(lines: list[str]) -> bool:
    return all(line.strip().startswith("{") and line.strip().endswith("}") for line in lines)


def _open_ended(rest: str, has_name: bool = True) -> str:
    """Return what is wrong with a call without a closing tag; "" if nothing."""
    found = ARGUMENTS.search(rest, 0, 200)
    arguments = rest[found.end() :].lstrip() if found else rest
    if not arguments.startswith(("{", "[")):
        return ""
    try:
        value, _ = DECODER.raw_decode(arguments)
    except (ValueError, RecursionError):
        return NOT_JSON
    return "" if found or not has_name else _named(value)


def _named(found: object) -> str:
    """Return what is wrong with a parsed call or list of calls; "" if nothing."""
    calls = found if isinstance(found, list) else [found]
    return next(filter(None, map(_fault_of, calls)), "") if calls else NO_NAME


def _fault_of(call: object) -> str:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return "" if isinstance(function, str) and function else NO_NAME
    name = function.get("name", function.get("tool_name"))
    if not isinstance(name, str) or not name.strip():
        return NO_NAME
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _json_of(arguments) if arguments.strip() else {}
        return "" if isinstance(arguments, dict) else NOT_JSON
    return "" if arguments is None or isinstance(arguments, dict) else NOT_JSON


def _json_of(text: str) -> object:
    """Return a text parsed as JSON, None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
