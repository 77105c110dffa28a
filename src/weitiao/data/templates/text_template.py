"""Parses text templates such as `Question: {instruction}\\nAnswer: `, and converts them to chat templates.

A text template becomes a Jinja chat template, which training and generation run and which is saved with the tokenizer,
so plain transformers renders the same text. The text ends where an answer begins. Syntax:

    {name}              is replaced by a field: a column of the row, or the question
    {?name}...{/name}   is written only if the field is not empty
    {^name}...{/name}   is written only if it is empty
    {{ and }}           are literal braces
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...core.settings import Unfit

QUESTIONS = ("instruction", "question", "prompt", "query", "content")
"""Field names that mean the question, under any column name."""
SYSTEM, INPUT, TASK = "system", "input", "task"
ALWAYS_KNOWN = (*QUESTIONS, INPUT, SYSTEM, TASK)
"""Fields that a template may use without a column of that name in the data."""
ANSWERS = ("output", "answer", "response", "completion", "target")
"""Columns that hold answers: they cannot be fields of the text before the answer."""
TAKEN = ("role", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking")
"""Keys of a message that have another meaning, so they cannot be fields."""
BETWEEN = "\n\n"
"""Separates an answer's end token from the next question, and a system text without a field from the question."""

MARKS = re.compile(r"\{\{|\}\}|\{([?^/]?)([^{}\n]*)\}|[{}]")
JINJA = re.compile(r"(?<!\{)\{%")
FORM = "{name}, {?name}...{/name}, {^name}...{/name}, or {{ and }} for literal braces"
EXAMPLE = r"Question: {instruction}\nAnswer: "


@dataclass(frozen=True)
class Field:
    """A placeholder for a field's value."""

    name: str


@dataclass(frozen=True)
class Section:
    """A part that is written only if a field is not empty, or only if it is empty."""

    name: str
    where_filled: bool
    inside: Nodes


Nodes = tuple["str | Field | Section", ...]


@dataclass(frozen=True)
class TextTemplate:
    """A parsed text with fields."""

    nodes: Nodes

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields, in order of first use."""
        return tuple(dict.fromkeys(_names(self.nodes)))

    @property
    def question(self) -> str:
        """The field for the question: one of `QUESTIONS`, else the first field without another meaning, else `input`;
        "" if there is none."""
        asked = [name for name in QUESTIONS if name in self.fields]
        others = [name for name in self.fields if name not in (SYSTEM, INPUT, TASK)]
        return next(iter([*asked, *others, *(name for name in self.fields if name == INPUT)]), "")

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that a user may have to give in addition to the question."""
        return tuple(name for name in self.fields if name not in (SYSTEM, TASK, self.question))


def _names(nodes: Nodes) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Field):
            yield node.name
        elif isinstance(node, Section):
            yield node.name
            yield from _names(node.inside)


def is_text_template(value: str) -> bool:
    """Return whether a value of `data.template` is a text with fields, not the name of a template."""
    return any(sign in value for sign in "{}\n")


def parse_text_template(text: str, setting: str = "data.template") -> TextTemplate:
    """Parse a text with fields; raises Unfit with what is wrong and what to type for `setting`.

    If the text has no newline, `\\n` and `\\t` typed in a shell are read as newline and tab. A field for the answer at
    the very end is dropped: the answer is written there anyway.
    """
    if JINJA.search(text):
        expected = "a text with fields, or chat for the chat template in the model's folder"
        raise Unfit(
            "it is a chat template in Jinja, which belongs to the tokenizer", expected, f"{setting}=chat"
        )
    text = _with_line_ends(text)
    found = _without_answer(_parsed(text, setting), setting)
    for name in found.fields:
        _require_usable(name)
    if not found.question:
        what = "it has no field for the question, so the question would be left out"
        raise Unfit(what, FORM, typed(setting, EXAMPLE))
    return found


def _with_line_ends(text: str) -> str:
    return text if "\n" in text else text.replace("\\n", "\n").replace("\\t", "\t")


def typed(setting: str, text: str) -> str:
    """Return `setting="text"` as it is typed into a shell."""
    shown = _with_line_ends(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{setting}="{shown}"'


def corrected(text: str, wrong: str, right: str) -> str:
    """Return a text with the field `wrong` renamed to `right`."""
    return re.sub(rf"\{{([?^/]?)\s*{re.escape(wrong)}\s*\}}", lambda one: f"{{{one[1]}{right}}}", text)


def _parsed(text: str, setting: str) -> TextTemplate:
    open_nodes: list[list[str | Field | Section]] = [[]]
    open_sections: list[tuple[str, bool]] = []
    at = 0
    for mark in MARKS.finditer(text):
        open_nodes[-1].append(text[at : mark.start()])
        at = mark.end()
        sign, name = mark[1], (mark[2] or "").strip()
        if mark[0] in ("{{", "}}"):
            open_nodes[-1].append(mark[0][0])
        elif mark[2] is None:
            raise Unfit(f"a single brace at {_around(text, mark.start())!r}", FORM)
        elif sign in ("?", "^"):
            open_sections.append((name, sign == "?"))
            open_nodes.append([])
        elif sign == "/":
            _close(name, open_nodes, open_sections)
        else:
            open_nodes[-1].append(Field(name))
    if open_sections:
        ends = "".join(f"{{/{name}}}" for name, _ in reversed(open_sections))
        name, where_filled = open_sections[-1]
        raise Unfit(
            f"{{{'?' if where_filled else '^'}{name}}} is not closed", FORM, typed(setting, text + ends)
        )
    return TextTemplate(_joined([*open_nodes[0], text[at:]]))


def _close(name: str, nodes: list[list[str | Field | Section]], sections: list[tuple[str, bool]]) -> None:
    if not sections or name != sections[-1][0]:
        expected = f"{{/{sections[-1][0]}}}" if sections else "{?" + name + "} before it"
        raise Unfit(f"{{/{name}}} closes nothing that is open", expected)
    opened, where_filled = sections.pop()
    inside = _joined(nodes.pop())
    nodes[-1].append(Section(opened, where_filled, inside))


def _joined(nodes: list[str | Field | Section]) -> Nodes:
    """Join adjacent pieces of text."""
    joined: list[str | Field | Section] = []
    for node in nodes:
        if isinstance(node, str) and joined and isinstance(joined[-1], str):
            joined[-1] += node
        elif node != "":
            joined.append(node)
    return tuple(joined)


def _without_answer(found: TextTemplate, setting: str) -> TextTemplate:
    """Drop a field for the answer at the end; raises Unfit for one anywhere else."""
    *before, last = found.nodes or ("",)
    kept = TextTemplate(tuple(before)) if isinstance(last, Field) and last.name in ANSWERS else found
    named = next((name for name in kept.fields if name in ANSWERS), "")
    if named:
        what = f"{{{named}}} is the answer, which is added after the text together with the end token"
        raise Unfit(what, "a text that ends where the answer begins", typed(setting, EXAMPLE))
    return kept


def _require_usable(name: str) -> None:
    if not name or name.isdigit():
        raise Unfit("a field has no name", FORM + "; such as {instruction} and {input}")
    if name in TAKEN:
        raise Unfit(f"{{{name}}} cannot be a field: turns use this name for something else", FORM)
    if not name.isprintable() or any(sign in name for sign in "\"'<>:;%"):
        raise Unfit(f"{{{name}}} is not a valid field name", FORM)


def _around(text: str, at: int, characters: int = 12) -> str:
    return text[max(0, at - characters) : at + characters]


def chat_template_of(
    default: TextTemplate, tasks: Mapping[str, TextTemplate], begin: str, end: str, result: str = ""
) -> str:
    """Return the Jinja source that renders conversations with the templates of their tasks, else with `default`.

    `begin` and `end` are the tokenizer's begin and end tokens. `result` is the heading of a tool's result; if it is
    empty, the template refuses such turns.
    """
    told = (
        "{{- " + quoted(BETWEEN + result) + " + message['content'] -}}"
        if result
        else "{{- raise_exception('a template with fields has no place for the role ' + message['role']) -}}"
    )
    ask = "{%- if state.turns -%}{{- " + quoted(BETWEEN) + " -}}{%- endif -%}"
    ask += "{{- question(ASKED, state.system, state.task) -}}{%- set state.system = '' -%}"
    ask += "{%- set state.turns = state.turns + 1 -%}"
    return "".join([
        _macro(default, tasks),
        "{{- " + quoted(begin) + " -}}" if begin else "",
        "{%- set state = namespace(system='', task='', turns=0, asks=false) -%}",
        "{%- for message in messages -%}",
        "{%- if message['task'] is defined -%}{%- set state.task = message['task'] -%}{%- endif -%}",
        "{%- if message['role'] == 'system' -%}{%- set state.system = message['content'] -%}",
        "{%- elif message['role'] == 'user' -%}", ask.replace("ASKED", "message"),
        "{%- set state.asks = true -%}",
        "{%- elif message['role'] == 'assistant' -%}",
        "{%- if not state.asks -%}", ask.replace("ASKED", "{'content': ''}"), "{%- endif -%}",
        "{{- message['content'] + ", quoted(end), " -}}{%- set state.asks = false -%}",
        "{%- else -%}", told, "{%- endif -%}{%- endfor -%}",
        "{%- if add_generation_prompt and not state.asks -%}", ask.replace("ASKED", "{'content': ''}"),
        "{%- endif -%}",
    ])  # fmt: skip


def _macro(default: TextTemplate, tasks: Mapping[str, TextTemplate]) -> str:
    """Return the Jinja macro that renders a question with its task's template."""
    parts = ["{%- macro question(message, system, task) -%}"]
    for number, (task, template) in enumerate(tasks.items()):
        parts += ["{%- ", "elif" if number else "if", " task == ", quoted(task), " -%}", _asked(template)]
    parts += ["{%- else -%}", _asked(default), "{%- endif -%}"] if tasks else [_asked(default)]
    return "".join([*parts, "{%- endmacro -%}"])


def _asked(template: TextTemplate) -> str:
    front = "{%- if system | trim -%}{{- system + " + quoted(BETWEEN) + " -}}{%- endif -%}"
    written = "".join(_jinja(node, template.question) for node in template.nodes)
    return written if SYSTEM in template.fields else front + written


def _jinja(node: str | Field | Section, question: str) -> str:
    if isinstance(node, str):
        return "{{- " + quoted(node) + " -}}"
    value = _value(node.name, question)
    if isinstance(node, Field):
        return "{{- " + value + " -}}"
    inside = "".join(_jinja(one, question) for one in node.inside)
    asked = "" if node.where_filled else "not "
    return "{%- if " + asked + "(" + value + ") | trim -%}" + inside + "{%- endif -%}"


def _value(name: str, question: str) -> str:
    """Return the Jinja expression for a field's value."""
    if name in (SYSTEM, TASK):
        return name
    fallback = "message['content']" if name == question else "''"
    return f"message[{quoted(name)}] | default({fallback})"


def quoted(text: str) -> str:
    """Return a text as a Jinja string literal."""
    return json.dumps(text, ensure_ascii=False)
