"""What rows hold and the chat template leaves out: calls, results, functions and thoughts the model never sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ..conversation import Conversation, Message
from ..formats._base import RowError
from ._base import GateContext, RowFacts
from ._kinds import Kind, KindsCheck, excerpt

CLOSES = "</think>"
Shape = tuple[Any, ...]


class Unwritten(KindsCheck):
    """Renders one row of each shape with unique marker words as its contents, and looks for each word in the result."""

    needs_tokens: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {
        "calls": Kind(
            "error",
            "this model's template has no place for tool calls: an answer that calls a tool is trained as "
            "an empty one",
            "use a model whose chat template writes tool calls, or write the calls into the text of the "
            "answer",
        ),
        "results": Kind(
            "error",
            "this model's template has no place for the results of functions: answers are trained without them",
            "use a model whose chat template writes turns with the role tool, or write the results into a "
            "question",
        ),
        "tools": Kind(
            "warning",
            "this model's template has no place for the list of functions",
            "use a model whose chat template lists functions, or describe the functions in a system turn",
        ),
        "texts": Kind(
            "warning",
            "this model's template leaves out the text of an answer that also calls functions",
            "put this text into a separate answer, or use a model whose chat template writes both",
        ),
        "thoughts": Kind(
            "warning",
            "this model's template has no place for this reasoning, so it is not trained",
            "if the reasoning is in reasoning_content, write it as <think>...</think> at the beginning of "
            "the answer's text; otherwise use a model whose chat template writes reasoning, or set "
            "data.reasoning=drop",
        ),
        "asked": Kind(
            "warning",
            "the template leaves out a part of the question: the model never sees it",
            "add a field for it to data.template: {instruction} is the whole question without the other "
            "fields",
        ),
        "names": Kind(
            "note",
            "this model's template has no place for the names of speakers (messages[].name): the model never sees them",
            "if a name matters, write it into the text of the turn",
        ),
    }

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self._lost_of: dict[Shape, frozenset[str]] = {}

    def observe(self, row: RowFacts) -> None:
        """Look at a conversation with tools, reasoning or other extra fields."""
        talk = row.form
        if not isinstance(talk, Conversation) or not row.sequences or not _has_more(talk):
            return
        shape = (bool(talk.tools), *map(_shape, talk.messages))
        if shape not in self._lost_of:
            self._lost_of[shape] = frozenset(self._lost(talk))
        for kind in self.kinds:
            if kind in self._lost_of[shape] and (kind != "asked" or _beside_fields(talk)):
                self.hit(kind, row, excerpt(_example(kind, talk)))

    def _lost(self, talk: Conversation) -> Iterator[str]:
        """Yield the kinds of content that the template leaves out of conversations of this shape; nothing if it refuses
        the marked conversation."""
        template = self.context.template
        if template is None:
            return
        messages = [_marked(message, at) for at, message in enumerate(talk.messages)]
        tools = [_marked_tool(tool, at) for at, tool in enumerate(talk.tools)]
        try:
            written = template.answers(messages, tools)
            before = template.prompt(messages[:-1], tools).text
        except RowError:
            return
        names = [message.extra["name"] for message in messages if _is_named(message)]
        if any(name not in before + written[-1] for name in names):
            yield "names"
        answers = iter(written)
        for at, message in enumerate(messages):
            if message.role == "tool" and message.content and message.content not in before:
                yield "results"
            if message.role == "user" and message.content not in before:
                yield "asked"
            if message.role == "assistant":
                yield from self._lost_of_answer(message, at, next(answers))
        if any(f"weitiaotool{at}x" not in before for at in range(len(tools))):
            yield "tools"

    def _lost_of_answer(self, message: Message, at: int, written: str) -> Iterator[str]:
        """Yield the kinds of content that are missing from the rendered answer."""
        calls = message.extra.get("tool_calls") or ()
        words = [word for number in range(len(calls)) for word in _of_call(at, number)]
        if any(word not in written for word in words):
            yield "calls"
        if calls and f"weitiaotext{at}x" in message.content and f"weitiaotext{at}x" not in written:
            yield "texts"
        thinks = f"weitiaothought{at}x" in message.content or message.extra.get("reasoning_content")
        if thinks and self.context.settings.reasoning != "drop" and f"weitiaothought{at}x" not in written:
            yield "thoughts"


def _is_named(message: Message) -> bool:
    """Return whether a message names its speaker; the name of a tool message is that of the function."""
    return message.role != "tool" and bool(message.extra.get("name"))


def _has_more(talk: Conversation) -> bool:
    return bool(talk.tools) or any(
        message.extra or message.role == "tool" or CLOSES in message.content for message in talk.messages
    )


def _shape(message: Message) -> Shape:
    """Return the properties of a message that can decide what a template writes of it."""
    calls = message.extra.get("tool_calls") or ()
    return (
        message.role,
        bool(message.content.strip()),
        CLOSES in message.content,
        len(calls),
        *sorted(message.extra),
    )


def _marked(message: Message, at: int) -> Message:
    """Return a message with its contents replaced by unique marker words."""
    text = f"weitiaotext{at}x" if message.content.strip() else ""
    if CLOSES in message.content and message.role == "assistant":
        said = text if message.content.rpartition(CLOSES)[2].strip() else ""
        text = f"<think>\nweitiaothought{at}x\n{CLOSES}\n\n{said}".rstrip()
    extra = dict(message.extra)
    if extra.get("reasoning_content"):
        extra["reasoning_content"] = f"weitiaothought{at}x"
    if _is_named(message):
        extra["name"] = f"weitiaoname{at}x"
    if extra.get("tool_calls"):
        calls = enumerate(extra["tool_calls"])
        extra["tool_calls"] = [_marked_call(call, *_of_call(at, number)) for number, call in calls]
    return replace(message, content=text, extra=extra)


def _of_call(at: int, number: int) -> tuple[str, str]:
    """Return the marker words for a call's name and an argument."""
    return f"weitiaocall{at}y{number}x", f"weitiaovalue{at}y{number}x"


def _marked_call(call: Any, name: str, value: str) -> Any:  # noqa: ANN401  (JSON)
    own = {"name": name, "arguments": {"weitiao": value}}
    return {**call, "function": own} if isinstance(call, Mapping) else call


def _marked_tool(tool: Mapping[str, Any], at: int) -> Mapping[str, Any]:
    function = tool.get("function", tool)
    marked = {**function, "name": f"weitiaotool{at}x"} if isinstance(function, Mapping) else function
    return {**tool, "function": marked} if "function" in tool else marked


def _example(kind: str, talk: Conversation) -> str:
    """Return an excerpt of a row's content that is left out, to be shown."""
    answers = [message for message in talk.messages if message.role == "assistant"]
    calls = [call for message in answers for call in message.extra.get("tool_calls") or ()]
    if kind in ("calls", "tools"):
        return next(filter(None, map(_name_of, calls if kind == "calls" else talk.tools)), "")
    if kind == "results":
        return next((message.content for message in talk.messages if message.role == "tool"), "")
    if kind == "asked":
        return _beside_fields(talk)
    if kind == "names":
        return next(str(message.extra["name"]) for message in talk.messages if _is_named(message))
    if kind == "texts":
        return next(
            (message.content for message in answers if message.extra.get("tool_calls") and message.content),
            "",
        )
    return next(filter(None, map(_thought_of, answers)), "")


def _beside_fields(talk: Conversation) -> str:
    """Return the text of questions that is in none of their extra fields."""
    rest = []
    for message in talk.messages:
        values = [value for value in message.extra.values() if isinstance(value, str) and value.strip()]
        if message.role == "user" and values:
            text = message.content
            for value in sorted(values, key=len, reverse=True):
                text = text.replace(value.strip(), "")
            rest.append(text.strip())
    return " ".join(filter(None, rest))


def _thought_of(message: Message) -> str:
    beside = message.extra.get("reasoning_content")
    if isinstance(beside, str) and beside.strip():
        return beside.strip()
    return message.content if CLOSES in message.content else ""


def _name_of(call: object) -> str:
    """Return the function name of a call or a tool description; "" if it has another form."""
    if not isinstance(call, Mapping):
        return ""
    function = call.get("function", call)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""
