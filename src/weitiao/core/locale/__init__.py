"""The language people are shown things in.

The code says everything in English. `in_language` turns a finished English text into Chinese by the one catalogue,
`zh.yaml`, whose keys are the English sentences with `{fields}` for what varies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

VARIABLE = "WEITIAO_LANG"
"""Environment variable that chooses the language, before the locale's variables."""
LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")

_chosen: list[Language] = []
"""The language chosen by `use_language`, if any."""


def language() -> Language:
    """Return the language in use: the one chosen by `use_language`, else that of the environment."""
    return _chosen[0] if _chosen else language_from(os.environ)


def language_from(environment: Mapping[str, str]) -> Language:
    """Return the language that environment variables choose: Chinese for every `zh...`, else English."""
    named = (environment.get(name) for name in (VARIABLE, *LOCALE_VARIABLES))
    return "zh" if next(filter(None, named), "").lower().startswith("zh") else "en"


@contextmanager
def use_language(chosen: Language | None) -> Iterator[None]:
    """Choose the language for the context; None is the environment's."""
    before = list(_chosen)
    _chosen[:] = [chosen] if chosen else []
    try:
        yield
    finally:
        _chosen[:] = before


def in_language(text: str, language: Language) -> str:
    """Return a text that the code says in a language; without a translation it stays English."""
    if language == "en":
        return text
    from .catalogue import chinese_catalogue

    return chinese_catalogue().translate(text)


def shown(text: str) -> str:
    """Return a text that the code says in the language in use."""
    return in_language(text, language())
