"""How an error a person can mend is printed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import Problem

if TYPE_CHECKING:
    from rich.text import Text

EXPECTED = "  expected  "
"""What an error's line begins with that says in a sentence what would be right."""
NARROWEST = 24
"""What text is given on the narrowest terminal."""


def print_problems(problems: Sequence[Problem]) -> None:
    """Print every problem on stderr, coloured where that is a terminal."""
    from ._tables import make_console

    console = make_console(stderr=True)
    count = len(problems)
    if count > 1:
        console.print(f"{count} problems:\n", style="bold")
    for number, problem in enumerate(problems):
        # Soft wrapping leaves what was given and what to type whole, to be copied.
        columns = console.width if console.is_terminal else None
        console.print(
            _problem_text(problem, columns), soft_wrap=True, end="\n\n" if number < count - 1 else "\n"
        )


def _problem_text(problem: Problem, columns: int | None) -> Text:
    """Return what is printed, its sentences in lines of so many columns, or whole."""
    from rich.text import Text

    what, *rest = str(problem).split("\n")
    text = Text(_filled(what, columns, ""), style="bold red")
    for line in rest:
        is_sentence = line.startswith(EXPECTED)
        shown = _filled(line, columns, " " * len(EXPECTED)) if is_sentence else line
        text.append("\n" + shown, style="green" if line.startswith("  try ") else "none")
    return text


def _filled(line: str, columns: int | None, indent: str) -> str:
    """Return a line broken between words, what follows behind an indent."""
    if columns is None:
        return line
    width = max(NARROWEST, columns)
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
