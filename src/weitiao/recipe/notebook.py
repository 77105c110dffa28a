"""A progress bar in a notebook: one output that is redrawn while the run continues."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import TYPE_CHECKING

from ..core.events import Event
from ..core.locale import shown
from ..core.visible import visible
from .progress import progress_text, short_numbers

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

SECONDS_BETWEEN_DRAWINGS = 0.25


def in_notebook() -> bool:
    """Return whether this Python runs a notebook's cells (Jupyter, VS Code, Colab)."""
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return False
    from ipykernel.zmqshell import ZMQInteractiveShell
    from IPython import get_ipython

    return isinstance(get_ipython(), ZMQInteractiveShell)


class NotebookSteps:
    """Lines of text with a progress bar below."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._lines: list[str] = []
        self._now = ""
        self._share: float | None = None
        self._is_live = False
        self._next_seconds = 0.0

    def say(self, text: str) -> None:
        """Add a line."""
        self._lines.append(visible(text))
        self._draw(at_once=True)

    def stage(self, text: str) -> None:
        """Show an indeterminate bar."""
        self._show(f"{shown(text)} ...", None, at_once=True)

    def start(self, event: Event) -> None:
        """Show the bar, starting at the step a resumed run continues from."""
        self._show(f"{event['step']}/{event['steps']}", event["step"] / event["steps"], at_once=True)

    def step(self, event: Event) -> None:
        """Move the bar."""
        is_last = event["step"] == event["steps"]
        self._show(short_numbers(event), event["step"] / event["steps"], at_once=is_last)

    def progress(self, event: Event) -> None:
        """Show the progress of something other than steps."""
        total = event.get("total")
        self._show(progress_text(event), event["done"] / total if total else None)

    def stop(self) -> None:
        """Remove the bar and keep the lines."""
        self._is_live = False
        if self._handle is not None:
            self._draw(at_once=True)

    def _show(self, text: str, share: float | None, *, at_once: bool = False) -> None:
        self._now, self._share, self._is_live = visible(text), share, True
        self._draw(at_once=at_once)

    def _draw(self, *, at_once: bool) -> None:
        now_seconds = time.monotonic()
        if not at_once and now_seconds < self._next_seconds:
            return
        self._next_seconds = now_seconds + SECONDS_BETWEEN_DRAWINGS
        from IPython.display import display

        bundle = {"text/html": self._html(), "text/plain": self._plain()}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def _plain(self) -> str:
        return "\n".join([*self._lines, *([self._now] if self._is_live else [])])

    def _html(self) -> str:
        lines = "\n".join(map(escape, self._lines))
        parts = [f'<pre style="white-space: pre-wrap; margin: 0">{lines}</pre>'] if lines else []
        if self._is_live:
            value = "" if self._share is None else f' value="{self._share:.4f}" max="1"'
            bar = f'<progress{value} style="width: 100%; max-width: 24rem"></progress>'
            parts.append(f'<div>{bar} <code style="white-space: nowrap">{escape(self._now)}</code></div>')
        return "".join(parts)
