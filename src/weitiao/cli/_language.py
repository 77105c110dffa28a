"""The option `--lang`: the language of all that a command shows, chosen before anything is parsed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import click

from ..core.locale import LANGUAGES, Language

FLAG = "--lang"
HELP = "Language of what is shown: en or zh.  [WEITIAO_LANG, else the system's]"


def lang_option() -> click.Option:
    """Return the option that chooses the language; its value is read before all others (`language_named`)."""
    return click.Option([FLAG], type=click.Choice(LANGUAGES), expose_value=False, help=HELP)


def language_named(arguments: Sequence[str]) -> Language | None:
    """Return the last language named by `--lang`, None if there is none."""
    values = [
        word.partition("=")[2] or (after if word == FLAG else "")
        for word, after in pairwise([*arguments, ""])
        if word == FLAG or word.startswith(f"{FLAG}=")
    ]
    return next((known for value in reversed(values) for known in LANGUAGES if known == value), None)
