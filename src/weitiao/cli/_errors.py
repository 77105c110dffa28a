"""Prints errors that a person can fix."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import Problem

if TYPE_CHECKING:
    from rich.text import Text

EXPECTED = "  expected  "
"""Start of the line of an error that says in a sentence what was expected."""
NARROWEST = 24
"""Least width of wrapped text, on any terminal."""


def print_problems(problems: Sequence[Problem]) -> None:
    """Print every problem on stderr, in colour if it is a terminal."""
    from ._tables import make_console

    console = make_console(stderr=True)
    count = len(problems)
    if count > 1:
        console.print(f"{count} problems:\n", style="bold")
    for number, problem in enumerate(problems):
        # Soft wrapping keeps the given value and the remedy on one line each, so that they can be copied.
        columns = console.width if console.is_terminal else None
        console.print(
            problem_text(problem, columns), soft_wrap=True, end="\n\n" if number < count - 1 else "\n"
        )


def problem_text(problem: Problem, columns: int | None) -> Text:
    """Return the text to print; sentences are wrapped to `columns`, or not at all for None."""
    from rich.text import Text

    what, *rest = str(problem).split("\n")
    text = Text(_filled(what, columns, ""), style="bold red")
    for line in rest:
        is_sentence = line.startswith(EXPECTED)
        shown = _filled(line, columns, " " * len(EXPECTED)) if is_sentence else line
        text.append("\n" + shown, style="green" if line.startswith("  try ") else "none")
    return text


def _filled(line: str, columns: int | None, indent: str) -> str:
    """Return a line wrapped between words, with continuation lines indented."""
    if columns is None:
        return line
    width = max(NARROWEST, columns)
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
