"""Calls that are written into an answer's text: whether what serves the model can read them back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

MARKS = (
    "tool_call",
    "function_call",
    "functioncall",
    "TOOL_CALLS]",
    "FUNCTION✿",
    "<function=",
    "python_tag|>",
)
"""One of these stands in every text that holds a call."""
TAG = re.compile(r"<(/?)(tool_calls?|function_calls?)>", re.IGNORECASE)
OPEN_ENDED = re.compile(r"<functioncall>|\[TOOL_CALLS\]|<\|python_tag\|>", re.IGNORECASE)
"""Marks behind which a call stands with no closing tag (Glaive's, Mistral's, Llama's)."""
NAMED = re.compile(r"<function=[^>\n]*>(.*?)(</function>|\Z)", re.DOTALL)
"""Llama 3.1's and Qwen3-Coder's."""
QWEN = re.compile(r"✿FUNCTION✿.*?✿ARGS✿[:：]?(.*?)(?=✿RESULT✿|✿FUNCTION✿|\n✿|\Z)", re.DOTALL)
NO_JSON = ("<function=", "<arg_key>", "<invoke", "<parameter", "<tool_name>", "<name>")
"""What a call in tags holds that is written without JSON (Qwen3-Coder's, GLM's, Anthropic's)."""
PYTHON = re.compile(r"\[?\w+\(.*\)\]?", re.DOTALL)
"""A call as Python writes it."""
BEGINS, ENDS = ("{", "[", "<", '"'), ("}", "]", ">")
"""What a call begins and ends with; a tag beside something else is talked about."""
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
    """Return what is wrong with the first broken call in a text; nothing where there is none."""
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


def _in_tags(text: str) -> Iterator[str]:
    """Yield what is wrong with each call between tags, nothing for a sound one. Outer tags of several calls hold
    others."""
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
    """Return what is wrong with what stands between tags."""
    if not inner:
        return EMPTY
    if TAG.search(inner) or any(mark in inner for mark in NO_JSON) or not set('{}[]"') & set(inner):
        return ""
    if PYTHON.fullmatch(inner):
        return ""
    found = _json_of(inner)
    if found is None:
        # Several calls may stand one a line.
        lines = [line for line in inner.splitlines() if line.strip()]
        return (
            next(filter(None, map(_call, lines)), "") if len(lines) > 1 and _each_whole(lines) else NOT_JSON
        )
    return _named(found)


def _each_whole(lines: list[str]) -> bool:
    return all(line.strip().startswith("{") and line.strip().endswith("}") for line in lines)


def _open_ended(rest: str) -> str:
    """Return what is wrong with a call that goes on to an end nobody marks."""
    found = ARGUMENTS.search(rest, 0, 200)
    arguments = rest[found.end() :].lstrip() if found else rest
    if not arguments.startswith(("{", "[")):
        return ""
    try:
        value, _ = DECODER.raw_decode(arguments)
    except (ValueError, RecursionError):
        return NOT_JSON
    return "" if found else _named(value)


def _named(found: object) -> str:
    calls = found if isinstance(found, list) else [found]
    named = all(isinstance(call, dict) and {"name", "function", "tool_name"} & call.keys() for call in calls)
    return "" if named and calls else NO_NAME


def _json_of(text: str) -> object:
    """Return a text's JSON, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
