"""Calls of functions: without a result, of functions nobody described, broken, or with arguments that are no JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from ..conversation import Conversation, Message
from ._base import GateOutcome, RowFacts
from ._kinds import Kind, KindsCheck, excerpt, most_first
from ._text_calls import broken_call

WRITTEN = re.compile(
    r"<\W?(tool_?call|function_?call|invoke)|\[TOOL_CALLS\]|✿FUNCTION✿|\bAction:", re.IGNORECASE
)
"""The beginning of a tool call that is written into an answer's text."""


class Tools(KindsCheck):
    """Looks at tool calls and their results."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "arguments": Kind(
            "error",
            "calls have arguments that are not a JSON object",
            'write arguments as an object: {"city": "Paris"}',
        ),
        "unknown": Kind(
            "warning",
            "calls name functions that the row's tools do not describe",
            "describe the function in tools, or correct its name",
        ),
        "no_result": Kind(
            "warning",
            "calls are followed by an answer without the result of the function",
            "put a tool turn with the result after each call",
        ),
        "no_call": Kind(
            "warning",
            "results of functions follow an answer that calls none",
            "write the call into the answer before the result, or leave the rows out",
        ),
        "broken": Kind(
            "warning",
            "calls written into answers are malformed, and the model would learn them like that",
            'close every tag, and write a call as JSON with a name: {"name": "f", "arguments": {}}',
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Look at each call of a row."""
        if fault := next(filter(None, map(broken_call, row.text.wanted)), ""):
            self.hit("broken", row, fault)
        if not isinstance(row.form, Conversation):
            return
        self.counts["with_tools"] += bool(row.form.tools)
        known = {excerpt(str(_function(tool).get("name"))) for tool in row.form.tools}
        messages = row.form.messages
        for place, message in enumerate(messages):
            calls = list(_calls(message))
            for call in calls:
                self._look(row, call, known)
            following = messages[place + 1].role if place + 1 < len(messages) else ""
            if (
                following == "tool"
                and message.role == "assistant"
                and not calls
                and not WRITTEN.search(message.content)
            ):
                self.hit("no_call", row)
            # A row may end with a call: then the call itself is what it teaches.
            if calls and following not in ("tool", ""):
                self.hit("no_result", row, excerpt(str(calls[0].get("name"))))

    def _look(self, row: RowFacts, call: Mapping[str, Any], known: set[str]) -> None:
        name = excerpt(str(call.get("name")))
        self.counts[f"calls {name}"] += 1
        if known and name not in known:
            self.hit("unknown", row, name)
        if not _is_object(call.get("arguments", {})):
            self.hit("arguments", row, f"{name}({excerpt(str(call.get('arguments')))})")

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of rows that describe tools, and of calls by function."""
        calls = {
            name.partition(" ")[2]: count for name, count in self.counts.items() if name.startswith("calls ")
        }
        return {"rows_with_tools": self.counts["with_tools"], "calls_by_function": most_first(calls)}


def _calls(message: Message) -> Iterator[Mapping[str, Any]]:
    listed = message.extra.get("tool_calls")
    for call in listed if isinstance(listed, list | tuple) else ():
        if isinstance(call, Mapping):
            yield _function(call)


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = tool.get("function")
    return inner if isinstance(inner, Mapping) else tool


def _is_object(arguments: object) -> bool:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
    return isinstance(arguments, Mapping)
