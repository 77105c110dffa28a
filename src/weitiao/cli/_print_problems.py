"""Prints problems that a person can fix, as blocks of lines on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import LABEL_COLUMNS, Problem
from ..core.locale import shown
from ..core.visible import padded
from ._wrap_text import hanging

if TYPE_CHECKING:
    from rich.text import Text


def print_problems(problems: Sequence[Problem]) -> None:
    """Print every problem on stderr, in colour if it is a terminal."""
    from ._tables import make_console

    console = make_console(stderr=True)
    count = len(problems)
    if count > 1:
        console.print(shown(f"{count} problems:") + "\n", style="bold")
    for number, problem in enumerate(problems):
        # Soft wrapping keeps the given value and the remedy on one line each, so that they can be copied.
        columns = console.width if console.is_terminal else None
        console.print(
            problem_text(problem, columns), soft_wrap=True, end="\n\n" if number < count - 1 else "\n"
        )


def problem_text(problem: Problem, columns: int | None) -> Text:
    """Return the text to print; sentences are wrapped to `columns`, or not at all for None."""
    from rich.text import Text

    expected, remedy = (f"  {padded(shown(label), LABEL_COLUMNS)} " for label in ("expected", "try"))
    what, *rest = str(problem).split("\n")
    text = Text(_filled(what, columns, ""), style="bold red")
    for line in rest:
        # Only the line of what was expected is a sentence; the others hold what a person copies.
        line_shown = _filled(line, columns, expected) if line.startswith(expected) else line
        text.append("\n" + line_shown, style="green" if line.startswith(remedy) else "none")
    return text


def _filled(line: str, columns: int | None, label: str) -> str:
    """Return a line wrapped to the right of its label."""
    return line if columns is None else hanging(label, line[len(label) :], columns)
