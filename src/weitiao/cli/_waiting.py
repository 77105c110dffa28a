"""What a command shows while something takes a while and nothing else is to be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def waiting(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that says what goes on: a wheel that turns on a terminal, a line everywhere else."""
    from ..recipe.progress import LiveSteps, PlainSteps

    steps = LiveSteps(console) if console.is_terminal else PlainSteps(console)
    try:
        yield steps.stage
    finally:
        steps.stop()
