"""Shows that a command is working while there is no other output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..core.locale import shown

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def waiting(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current stage: a spinner on a terminal, a line elsewhere."""
    from ..recipe.progress import LiveSteps, PlainSteps

    steps = LiveSteps(console) if console.is_terminal else PlainSteps(console)
    try:
        yield lambda text: steps.stage(shown(text))
    finally:
        steps.stop()
