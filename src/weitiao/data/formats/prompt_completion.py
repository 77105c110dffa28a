"""Prompt and completion, both as text or both as messages.

The format of OpenAI's older fine-tuning and of TRL (https://huggingface.co/docs/trl/dataset_formats); `weight` is the
loss weight of the completion's tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from ..conversation import Conversation, Row
from ._base import Format
from ._calls import TOOLS, tools_in
from ._prompts import CONTEXTS, history_in, said_in, with_beside
from ._turns import conversation, with_system_turn


class PromptCompletion(Format):
    """The completion is the answer: assistant messages in the completion are trained, those in the prompt are not."""

    form: ClassVar[str] = "conversation"
    columns: ClassVar[tuple[str, ...]] = (
        "prompt",
        "completion",
        "weight",
        "input",
        *CONTEXTS,
        "system",
        "system_prompt",
        "history",
        *TOOLS,
    )
    ways: ClassVar[tuple[frozenset[str], ...]] = (frozenset({"prompt", "completion"}),)
    example: ClassVar[str] = '{"prompt": "The capital of France is", "completion": "Paris."}'

    def read(self, row: Row) -> Conversation:
        """Parse a row into a conversation whose earlier answers are context; raises RowError."""
        fields = row.fields
        prompt = [
            replace(message, weight=0.0) if message.role == "assistant" else message
            for message in [
                *history_in(fields),
                *with_beside(fields, said_in(fields, "prompt", "user"), "prompt"),
            ]
        ]
        answer = said_in(fields, "completion", "assistant")
        return conversation(with_system_turn(fields, [*prompt, *answer]), row, tools_in(fields))
