"""How an error a person can mend is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import Problem

if TYPE_CHECKING:
    from rich.text import Text


def print_problems(problems: Sequence[Problem]) -> None:
    """Print every problem on stderr, coloured where that is a terminal."""
    from ._tables import make_console

    console = make_console(stderr=True)
    count = len(problems)
    if count > 1:
        console.print(f"{count} problems:\n", style="bold")
    for number, problem in enumerate(problems):
        # Soft wrapping leaves paths and commands whole, to be copied.
        console.print(_problem_text(problem), soft_wrap=True, end="\n\n" if number < count - 1 else "\n")


def _problem_text(problem: Problem) -> Text:
    from rich.text import Text

    what, *rest = str(problem).split("\n")
    text = Text(what, style="bold red")
    for line in rest:
        text.append("\n" + line, style="green" if line.startswith("  try ") else "none")
    return text
