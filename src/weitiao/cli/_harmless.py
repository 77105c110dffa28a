"""A render hook for rich's console: only rich's own styles and cursor movements reach the terminal as such."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.control import Control
from rich.segment import Segment

from ..core.visible import visible


class Harmless(RenderHook):
    """Escapes control characters in everything that is printed."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap each renderable."""
        return [one if isinstance(one, Control) else _Harmless(one) for one in renderables]


@dataclass(frozen=True)
class _Harmless:
    """A renderable whose text has its control characters escaped."""

    inner: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
