"""Decides whether an unread column only repeats what was read from the row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..forms import AnyForm, kind_of_form, with_texts
from ._fields import Unread, is_empty
from ._known import ANSWER_TEXT, PROMPT_TEXT, WHOLE_TEXT

LEAST_PART = 8
"""Characters; a shorter text may be contained in another by chance."""
FILE = re.compile(r"\S{1,200}\.\w{1,5}|\w+://\S+")
"""The name or URL of a document, which is not text to train on."""


def is_said(one: Unread, form: AnyForm, fields: Mapping[str, Any]) -> bool:
    """Return whether a column repeats a text of the row's form, or another column of the row."""
    if isinstance(one.value, bool) or not isinstance(one.value, str | list | dict | int | float):
        return False
    others = (value for name, value in fields.items() if name != one.name)
    if not isinstance(one.value, int | float) and one.value in others:
        return True
    name = one.name.strip().lower()
    if name in WHOLE_TEXT and _is_rendered(one, fields):
        return True
    if name in WHOLE_TEXT and isinstance(one.value, str) and FILE.fullmatch(one.value.strip()):
        return True
    said, short_too = _texts(form), kind_of_form(form) == "text" or name in ANSWER_TEXT
    return all(
        text in said or ((short_too or len(text) >= LEAST_PART) and _holds(said, text))
        for text in _texts_of(one.value)
    )


def _is_rendered(one: Unread, fields: Mapping[str, Any]) -> bool:
    """Return whether a text contains all prompt and answer columns of the row, like a rendered prompt template."""
    parts = [
        text
        for name, value in fields.items()
        if name != one.name and (name in PROMPT_TEXT or name in ANSWER_TEXT) and not is_empty(value)
        for text in _texts_of(value)
    ]
    return bool(parts) and isinstance(one.value, str) and all(_holds([one.value], text) for text in parts)


def _holds(texts: list[str], part: str) -> bool:
    """Return whether one of several texts contains `part`, ignoring white space."""
    if any(part in text for text in texts):
        return True
    plain = "".join(part.split())
    return any(plain in "".join(text.split()) for text in texts)


def _texts(form: AnyForm) -> list[str]:
    texts: list[str] = []

    def gathered(text: str) -> str:
        texts.append(text.strip())
        return text

    with_texts(form, gathered)
    return texts


def _texts_of(value: object) -> Iterator[str]:
    """Yield the texts of a value: text, number, turns or pairs; for anything else its repr, which no text contains."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, int | float):
        yield str(value)
    elif isinstance(value, list):
        for one in value:
            yield from _texts_of(one)
    elif isinstance(value, dict):
        said = value.get("content", value.get("value"))
        yield said.strip() if isinstance(said, str) else repr(value)
    else:
        yield repr(value)
