"""Wraps text for the terminal at spaces only, so that links and formulas stay whole."""

from __future__ import annotations

import textwrap

NARROWEST = 24
"""Least width of wrapped text, on any terminal."""


def wrapped_lines(text: str, width: int, narrowest: int = NARROWEST) -> list[str]:
    """Return the lines of a text wrapped to a width, at least one; leading spaces are kept."""
    width = max(narrowest, width)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def hanging(text: str, width: int, indent: str = "", label: str = "") -> str:
    """Return a text wrapped to a width, with a label before it and the other lines indented."""
    first, *others = wrapped_lines(text, width - len(indent))
    return "\n".join([label.ljust(len(indent)) + first, *(indent + line for line in others)])
