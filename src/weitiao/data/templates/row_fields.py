"""Puts the columns that a text template names beside a row's question, for the template to fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..conversation import Conversation, Message, Row
from ..formats._base import Format, RowError, said_in_text
from ..formats._fields import is_empty
from ..forms import AnyForm, Choice, Pair, Preference, Scored, Unpaired, parts
from .text_template import (
    ALWAYS_KNOWN,
    INPUT,
    QUESTIONS,
    SYSTEM,
    TASK,
    is_text_template,
    parse_text_template,
)

if TYPE_CHECKING:
    from .template_choice import Wording

Asking = Conversation | Preference | Unpaired | Scored | Choice


def parse_with_fields(
    row: Row, columns: Mapping[str, str], form: Format, wording: Wording, *, named: bool
) -> tuple[AnyForm, list[str]]:
    """Parse a row as `Format.parse_noting` does (into its form and the unused columns), and put the columns that its
    task's template names beside its question.

    `columns` maps our name of a column to its name in the data; a template may use either. Raises RowError.
    """
    text = wording.text_for(_task_in(row))
    if text is None:
        parsed, unused = form.parse_noting(row, named=named)
        return _with_task(parsed, wording), unused
    ours = {theirs: ours for ours, theirs in columns.items()}
    column_of = {name: name if name in row.fields else ours.get(name, name) for name in text.fields}
    fields = {name: column for name, column in column_of.items() if name not in (SYSTEM, TASK)}
    # The template uses these columns, but the format does not: keep them from the format, which would report them.
    free = {one for one in fields.values() if one in row.fields and one not in form.columns}
    parsed, unused = form.parse_noting(_without(row, free), named=named)
    wanted = {name: one for name, one in fields.items() if name != text.question or one in free}
    values = _values(row, wanted)
    if text.question in values:
        unused = [
            *unused,
            *(
                name
                for name in (*QUESTIONS, INPUT)
                if not is_empty(row.fields.get(name)) and name not in fields.values()
            ),
        ]
    elif beside := {fields[name] for name in values} - free:
        values[text.question] = _question_without(row, free | beside, form, named=named)
    return _with_task(_beside(parsed, values), wording), unused


def with_task_of(task: str, row: Row) -> Row:
    """Return a row with the task of its source, unless the row names its own."""
    if not task or not is_empty(row.fields.get(TASK)):
        return row
    return Row({**row.fields, TASK: task}, row.source, row.line, row.number)


def _task_in(row: Row) -> str:
    task = row.fields.get(TASK)
    return "" if task is None or isinstance(task, bool) else str(task)


def _without(row: Row, names: set[str]) -> Row:
    return Row(
        {name: value for name, value in row.fields.items() if name not in names},
        row.source, row.line, row.number,
    ) if names else row  # fmt: skip


def _values(row: Row, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the non-empty values of fields, given field -> column; raises RowError."""
    return {
        name: said_in_text(row.fields[column], repr(column))
        for name, column in columns.items()
        if not is_empty(row.fields.get(column))
    }


def _question_without(row: Row, names: set[str], form: Format, *, named: bool) -> str:
    """Return the row's question without the columns that have their own field; "" if nothing is left."""
    try:
        parsed, _ = form.parse_noting(_without(row, names), named=named)
    except RowError:
        return ""
    return _last_question(_turns(parsed)).content


def _turns(form: AnyForm) -> Sequence[Message]:
    part = parts(form)[0][1]
    return part.messages if isinstance(part, Conversation) else ()


def _last_question(turns: Sequence[Message]) -> Message:
    return next((turn for turn in reversed(turns) if turn.role == "user"), Message("user", ""))


def _beside(form: AnyForm, values: Mapping[str, str]) -> AnyForm:
    """Return a form with values added to `extra` of its last question."""
    if not values:
        return form
    if isinstance(form, Pair):
        (_, form), *_ = parts(form)
    if not isinstance(form, Asking):
        return form
    turns = list(form.messages if isinstance(form, Conversation) else form.prompt)
    last = max((at for at, turn in enumerate(turns) if turn.role == "user"), default=None)
    if last is None:
        return form
    turns[last] = replace(turns[last], extra={**turns[last].extra, **values})
    return (
        replace(form, messages=tuple(turns))
        if isinstance(form, Conversation)
        else replace(form, prompt=tuple(turns))
    )


def _with_task(form: AnyForm, wording: Wording) -> AnyForm:
    """Put a row's task beside its question, if a template needs it."""
    asks = form.task in wording.task_templates or any(TASK in text.fields for text in wording.texts)
    return _beside(form, {TASK: form.task}) if form.task and asks else form


def unknown_fields(wording: Wording, columns: set[str]) -> list[tuple[str, str, str]]:
    """Return (setting, its text, field) for every field that is neither a column of the data nor always known."""
    known = {*ALWAYS_KNOWN, *columns}
    texts = {"data.template": wording.template} if is_text_template(wording.template) else {}
    texts |= {f"data.task_templates.{task}": text for task, text in wording.task_templates.items()}
    return [
        (setting, text, name)
        for setting, text in texts.items()
        for name in parse_text_template(text).fields
        if name not in known
    ]
