"""Wraps whole texts for a terminal by the columns they take: English between words, Chinese between characters."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ..core.visible import columns_of, padded
from ._wrap_stream import StreamWrapper

NARROWEST = 24
"""Least width of wrapped text, on any terminal."""


def wrap(text: str, columns: int) -> list[str]:
    """Return a text's lines of at most `columns` columns; words such as links and formulas are never broken."""
    if columns_of(text) == len(text):
        return textwrap.wrap(text, max(1, columns), break_long_words=False, break_on_hyphens=False)
    written: list[str] = []
    wrapped = StreamWrapper(columns, written.append)
    wrapped.push(text)
    wrapped.rest()
    return [line.rstrip() for line in "".join(written).split("\n")]


def hanging(label: str, text: str, columns: int) -> str:
    """Return a label and its text, wrapped to `columns` to the right of the label."""
    indent = " " * columns_of(label)
    lines = wrap(text, max(NARROWEST, columns - len(indent))) or [""]
    return label + f"\n{indent}".join(lines)


def right(text: str, columns: int) -> str:
    """Return a text with spaces before it, so that it takes at least `columns` columns."""
    return " " * (columns - columns_of(text)) + text


def in_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells side by side, each padded to its width."""
    return "".join(map(padded, cells, widths)).rstrip()
