"""Applies a person's choice of template: a chat template, a text with fields, and the default system prompt.

Each choice is written into the tokenizer's chat template. So training, generation and evaluation run the same template,
and the tokenizer saved with a result carries it to other tools.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .encoder import begin_text, template_source
from .text_template import TextTemplate, chat_template_of, is_text_template, parse_text_template, quoted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Kind = Literal["chat", "instruction", "text"]
KINDS = ("auto", "chat", "instruction")
"""The named values of `data.template`."""
OWN_SYSTEM = "auto"
"""The value of `data.system` that keeps the template's own default."""
INSTRUCTION = "{?instruction}### Instruction:\n{instruction}\n\n{/instruction}### Response:\n"
RESULT = "### Result:\n"
"""Headings from Stanford Alpaca (https://github.com/tatsu-lab/stanford_alpaca), without its introductory sentence."""


@dataclass(frozen=True)
class Wording:
    """A person's choice of templates and system prompt."""

    template: str = "auto"
    """auto, chat, instruction, or a text with fields."""
    task_templates: Mapping[str, str] = field(default_factory=dict)
    """Task -> its own text with fields."""
    system: str = OWN_SYSTEM
    """The system prompt of conversations that have none; auto keeps the template's own."""

    def kind(self, has_chat_template: bool) -> Kind:
        """Return which kind of template renders turns that have no task template."""
        if is_text_template(self.template):
            return "text"
        if self.template == "chat" or (self.template == "auto" and has_chat_template):
            return "chat"
        return "instruction"

    @property
    def tasks(self) -> dict[str, TextTemplate]:
        """The tasks' templates, parsed."""
        return {task: parse_text_template(text) for task, text in self.task_templates.items()}

    @property
    def texts(self) -> list[TextTemplate]:
        """Every text with fields, parsed; that of `template` first."""
        own = [parse_text_template(self.template)] if is_text_template(self.template) else []
        return [*own, *self.tasks.values()]

    @property
    def beside_a_question(self) -> str:
        """What may be given with a question (the task, fields), in words; "" if nothing."""
        columns = dict.fromkeys(name for text in self.texts for name in text.columns)
        given = [f"the task ({', '.join(self.task_templates)})"] if self.task_templates else []
        given += [f"the fields {', '.join(columns)}"] if columns else []
        return " and ".join(given)

    def text_for(self, task: str) -> TextTemplate | None:
        """Return the text with fields that renders a task's rows, None if a chat template does."""
        if task in self.task_templates:
            return self.tasks[task]
        return parse_text_template(self.template) if is_text_template(self.template) else None


AUTO = Wording()


def dressed(
    tokenizer: PreTrainedTokenizerBase,
    wording: Wording,
    kind: Kind,
    takes_system: Callable[[PreTrainedTokenizerBase], bool],
) -> PreTrainedTokenizerBase:
    """Return a tokenizer whose chat template renders turns as chosen; the same one if its own template is chosen.

    `takes_system` returns whether a tokenizer's chat template accepts a system message.
    """
    mark = _mark(wording)
    if mark in template_source(tokenizer):
        return tokenizer  # it was saved with a result, so its template already holds the same choices
    chosen = _with_texts(tokenizer, wording, kind)
    if wording.system != OWN_SYSTEM:
        chosen = with_system(chosen, wording.system, takes_system(chosen))
    return chosen if chosen is tokenizer else changed(chosen, lambda source: mark + source)


def _mark(wording: Wording) -> str:
    """Return a Jinja comment that identifies a chat template made for these choices."""
    chosen = json.dumps([wording.template, dict(wording.task_templates), wording.system])
    return f"{{# weitiao {hashlib.sha256(chosen.encode()).hexdigest()[:16]} #}}"


def _with_texts(tokenizer: PreTrainedTokenizerBase, wording: Wording, kind: Kind) -> PreTrainedTokenizerBase:
    tasks = wording.tasks
    if kind == "chat" and not tasks:
        return tokenizer
    begin, end = begin_text(tokenizer), str(tokenizer.eos_token)
    if kind == "chat":
        written = chat_template_of(next(iter(tasks.values())), tasks, begin, end)
        return changed(tokenizer, lambda own: _by_task(tuple(tasks), written, own))
    default = wording.text_for("") or parse_text_template(INSTRUCTION)
    source = chat_template_of(default, tasks, begin, end, RESULT if kind == "instruction" else "")
    return _with(tokenizer, source)


def with_system(tokenizer: PreTrainedTokenizerBase, text: str, takes_system: bool) -> PreTrainedTokenizerBase:
    """Return a tokenizer whose chat template puts a system prompt before conversations that have none.

    If the template takes no system message, the text is put at the beginning of the first question, like a row's own.
    """
    if not takes_system and not text.strip():
        return tokenizer
    before = AS_SYSTEM if takes_system else IN_QUESTION
    return changed(tokenizer, lambda own: before.replace("TEXT", quoted(text)) + own)


# Chat templates are rendered with trim_blocks, which drops the newline after a block: the text after it is unchanged.
AS_SYSTEM = (
    "{% set messages = messages if messages and messages[0]['role'] == 'system' "
    "else [{'role': 'system', 'content': TEXT}] + messages %}\n"
)
IN_QUESTION = (
    "{% set messages = [dict(messages[0], content=TEXT + '\\n\\n' + messages[0]['content'])] + messages[1:] "
    "if messages and messages[0]['role'] == 'user' and messages[0]['content'] is string else messages %}\n"
)


def _by_task(tasks: Sequence[str], written: str, own: str) -> str:
    """Return the chat template `own`, but with conversations of some tasks rendered by the template `written`."""
    is_one = " or ".join(f"chosen.task == {quoted(task)}" for task in tasks)
    return "".join([
        "{%- set chosen = namespace(task='') -%}{%- for message in messages -%}{%- if message['task'] is defined -%}",
        "{%- set chosen.task = message['task'] -%}{%- endif -%}{%- endfor -%}{%- if ", is_one, " -%}", written,
        "{%- else %}\n", own.removesuffix("\n"), "{{ '' }}{% endif %}",
    ])  # fmt: skip


def changed(tokenizer: PreTrainedTokenizerBase, change: Callable[[str], str]) -> PreTrainedTokenizerBase:
    """Return a copy of a tokenizer with a changed chat template; if it has several, each is changed."""
    own = tokenizer.chat_template
    if isinstance(own, Mapping):
        return _with(tokenizer, {name: change(source) for name, source in own.items()})
    return _with(tokenizer, change(str(own)))


def _with(tokenizer: PreTrainedTokenizerBase, source: str | dict[str, str]) -> PreTrainedTokenizerBase:
    """Return a shallow copy of a tokenizer with another chat template."""
    changed = copy.copy(tokenizer)
    changed.chat_template = source
    return changed
