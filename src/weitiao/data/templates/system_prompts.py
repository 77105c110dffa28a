"""The system prompt that the rows trained on begin with, kept so that the trained model is asked with it as well.

It is written into the chat template of the tokenizer that is saved with a result, as the system prompt of conversations
that have none. So other tools use it, too. Here it is taken out again when a result is opened, and stands before the
question as a message of its own: a person can see it, change it and leave it out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError
from ..conversation import Message
from ..formats._base import RowError
from .template_choice import AS_SYSTEM, IN_QUESTION, changed, with_system

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .template import Template

NEARLY_ALL = 0.95
"""The share of rows from which their system prompt counts as that of all."""
MARK = "{# weitiao: the system prompt of the rows trained on #}"
"""Stands before it in a chat template."""
PROBE = Message("user", "Hello")


@dataclass(frozen=True)
class SystemPrompts:
    """How many of the rows trained on begin with a system prompt, and with which."""

    rows: int
    """Rows trained on."""
    kinds: int
    """Different system prompts."""
    text: str
    """The most frequent."""
    count: int
    """How many rows begin with it."""

    @property
    def common(self) -> str:
        """The system prompt of all rows, or nearly all; nothing where there is no such one."""
        return self.text if self.count and self.count >= NEARLY_ALL * self.rows else ""

    @property
    def note(self) -> str:
        """Say why none is used though there are some; nothing where one is used, or there is none."""
        if not self.kinds or self.common:
            return ""
        if self.kinds > 1:
            return f"training used {self.kinds:,} different system prompts, so none is used of itself"
        share = self.count / self.rows
        return f"training used a system prompt in {share:.0%} of its rows, so none is used of itself"

    def as_fields(self) -> dict[str, Any]:
        """Return it as an event holds it."""
        return asdict(self)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> SystemPrompts:
        """Return what `as_fields` wrote; raises TypeError for other fields."""
        return cls(**fields)


def asked_with(system: str, messages: Sequence[Message]) -> list[Message]:
    """Return messages with a system prompt before them, where there is one and they begin with none of their own."""
    has_own = bool(messages) and messages[0].role == "system"
    return [*([Message("system", system)] if system.strip() and not has_own else []), *messages]


def with_trained_system(template: Template, text: str) -> PreTrainedTokenizerBase:
    """Return a template's tokenizer with `text` as the system prompt of conversations that have none; without any where
    its chat template cannot carry that, and as it is where there is no text."""
    from .template import Template

    if not text.strip():
        return template.tokenizer
    own, _ = without_trained_system(template.tokenizer)
    dressed = changed(with_system(own, text, template.takes_system), lambda source: MARK + source)
    try:
        carrying = Template(dressed, template.kind, set(template.stop_ids), template.day)
        carries = carrying.prompt([PROBE]).ids == template.prompt(asked_with(text, [PROBE])).ids
    except (RowError, ModelError):
        return own
    return dressed if carries else own


def without_trained_system(tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedTokenizerBase, str]:
    """Return a tokenizer without what `with_trained_system` wrote into it, and that text; the same and nothing where
    there is none."""
    own = tokenizer.chat_template
    sources = list(own.values()) if isinstance(own, Mapping) else [own]
    texts = [_parted(source)[1] for source in sources if isinstance(source, str)]
    if not any(texts):
        return tokenizer, ""
    return changed(tokenizer, lambda source: _parted(source)[0]), next(filter(None, texts))


def _parted(source: str) -> tuple[str, str]:
    """Return a chat template without a trained system prompt before it, and that prompt; nothing where none is."""
    line, _, rest = source.removeprefix(MARK).partition("\n")
    for written in (AS_SYSTEM, IN_QUESTION):
        before, after = written.removesuffix("\n").split("TEXT")
        if source.startswith(MARK) and line.startswith(before) and line.endswith(after):
            return rest, str(json.loads(line[len(before) : len(line) - len(after)]))
    return source, ""
