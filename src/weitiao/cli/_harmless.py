"""A hook for rich's console: whatever is printed, only rich's own styles and movements reach the terminal as such."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.control import Control
from rich.segment import Segment

from ..core.visible import visible


class Harmless(RenderHook):
    """Shows control characters in what is printed as escapes."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap what is to be printed."""
        return [one if isinstance(one, Control) else _Harmless(one) for one in renderables]


@dataclass(frozen=True)
class _Harmless:
    """Something printed without what a terminal would obey."""

    inner: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
