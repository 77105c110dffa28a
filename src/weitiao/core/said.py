"""A sentence for a person, in both languages."""

from __future__ import annotations

from typing import NamedTuple


class Said(NamedTuple):
    """What the terminal and the English report say, and what the Chinese report says."""

    en: str
    zh: str
