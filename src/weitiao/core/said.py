"""A sentence for a person, in both languages."""

from __future__ import annotations

from typing import NamedTuple


class Said(NamedTuple):
    """One sentence: English for the terminal and the English report, Chinese for the Chinese report."""

    en: str
    zh: str
