"""What rows hold and the chat template leaves out: tool calls, functions and thoughts that never reach the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

from ..conversation import Conversation
from ._base import RowFacts
from ._kinds import Kind, KindsCheck, excerpt


class Unwritten(KindsCheck):
    """Looks for names of called functions, of functions offered, and for thoughts, in the rendered text."""

    needs_tokens: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {
        "calls": Kind(
            "error",
            "this model's template has no place for tool calls: the answer that calls is trained as an empty one",
            "这个模型的模板没有工具调用的位置：调用工具的回答会被当成空回答来训练",
            "a model whose chat template writes tool calls, or calls written into the answer's text",
            "换一个对话模板支持工具调用的模型，或把调用写进回答的文本里",
        ),
        "tools": Kind(
            "warning",
            "this model's template has no place for the list of functions",
            "这个模型的模板没有函数列表的位置",
            "a model whose chat template shows functions, or the functions described in a system turn",
            "换一个对话模板会列出函数的模型，或在 system 轮里描述这些函数",
        ),
        "thoughts": Kind(
            "warning",
            "this model's template has no place for reasoning_content, so these thoughts are not trained",
            "这个模型的模板没有 reasoning_content 的位置，这些思考不会被训练",
            "<think>...</think> in front of the answer in its own text, or data.reasoning=drop",
            "把 <think>...</think> 写在回答文本的开头，或设 data.reasoning=drop",
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Look at conversations with more than text."""
        if not isinstance(row.form, Conversation) or not row.examples:
            return
        sought = list(self._sought(row.form))
        if not sought:
            return
        written = self._decoded(row)
        for kind in self.kinds:
            lost = [text for of, text in sought if of == kind and text not in written]
            if lost:
                self.hit(kind, row, excerpt(lost[0]))

    def _sought(self, talk: Conversation) -> Iterator[tuple[str, str]]:
        """Yield (kind, what has to stand in the text)."""
        for message in talk.messages:
            yield from (
                ("calls", name) for name in map(_name_of, message.extra.get("tool_calls") or ()) if name
            )
        yield from (("tools", name) for name in map(_name_of, talk.tools) if name)
        last = talk.messages[-1].extra.get("reasoning_content")
        if isinstance(last, str) and last.strip() and self.context.settings.reasoning != "drop":
            yield "thoughts", last.strip().splitlines()[0]

    def _decoded(self, row: RowFacts) -> str:
        return "\n".join(self._tokenizer.decode(list(example.ids)) for example in row.examples)

    @cached_property
    def _tokenizer(self) -> Any:  # noqa: ANN401  (transformers types decode loosely)
        return self.context.tokenizer


def _name_of(call: object) -> str:
    """Return the function a call or a description names, nothing where it is of another form."""
    if not isinstance(call, Mapping):
        return ""
    function = call.get("function", call)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""
