"""Saves the training rows' common system prompt with a result, so that the trained model is also prompted with it.

It is written into the chat template of the saved tokenizer, as the default system prompt of conversations that have
none, so other tools use it too. When weitiao opens a result, it removes the prompt from the chat template and puts it
before the question as a message of its own, which a person can see, change and leave out.
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
"""A system prompt that at least this share of the rows has counts as that of all."""
MARK = "{# weitiao: the system prompt of the rows trained on #}"
"""The comment put before the system prompt in a chat template."""
PROBE = Message("user", "Hello")


@dataclass(frozen=True)
class SystemPrompts:
    """How many training rows begin with a system prompt, and with which."""

    rows: int
    """Training rows."""
    kinds: int
    """Different system prompts."""
    text: str
    """The most frequent system prompt."""
    count: int
    """How many rows begin with `text`."""

    @property
    def common(self) -> str:
        """The system prompt of all rows, or nearly all; "" if there is none."""
        return self.text if self.count and self.count >= NEARLY_ALL * self.rows else ""

    @property
    def note(self) -> str:
        """Why no system prompt is used although rows have some; "" if one is used, or no row has any."""
        if not self.kinds or self.common:
            return ""
        if self.kinds > 1:
            return f"training used {self.kinds:,} different system prompts, so none is used by default"
        share = self.count / self.rows
        return f"training used a system prompt in {share:.0%} of its rows, so none is used by default"

    def as_fields(self) -> dict[str, Any]:
        """Return the fields as they are written to an event."""
        return asdict(self)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> SystemPrompts:
        """Return what `as_fields` wrote; raises TypeError for other fields."""
        return cls(**fields)


def asked_with(system: str, messages: Sequence[Message]) -> list[Message]:
    """Return messages with `system` before them, unless it is empty or they begin with a system message."""
    has_own = bool(messages) and messages[0].role == "system"
    return [*([Message("system", system)] if system.strip() and not has_own else []), *messages]


def with_trained_system(template: Template, text: str) -> PreTrainedTokenizerBase:
    """Return a template's tokenizer with `text` as the default system prompt of its chat template.

    The default is left out if the changed chat template would render it differently from a system message; the
    tokenizer is unchanged if `text` is empty.
    """
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
    """Return a tokenizer without the system prompt that `with_trained_system` wrote, and that prompt; the same
    tokenizer and "" if there is none."""
    own = tokenizer.chat_template
    sources = list(own.values()) if isinstance(own, Mapping) else [own]
    texts = [_parted(source)[1] for source in sources if isinstance(source, str)]
    if not any(texts):
        return tokenizer, ""
    return changed(tokenizer, lambda source: _parted(source)[0]), next(filter(None, texts))


def _parted(source: str) -> tuple[str, str]:
    """Split a chat template's source into the source without the trained system prompt, and that prompt or ""."""
    line, _, rest = source.removeprefix(MARK).partition("\n")
    for written in (AS_SYSTEM, IN_QUESTION):
        before, after = written.removesuffix("\n").split("TEXT")
        if source.startswith(MARK) and line.startswith(before) and line.endswith(after):
            return rest, str(json.loads(line[len(before) : len(line) - len(after)]))
    return source, ""
