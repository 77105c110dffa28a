"""Shows the progress of a download or conversion: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ..core.events import Event, Listener
from ..core.locale import shown
from ..core.units import readable_bytes, readable_seconds
from ._tables import make_console

if TYPE_CHECKING:
    from ..models.settings import ModelSettings

PLAIN_SECONDS = 5.0
"""Least time between two lines without a terminal."""


class Transfers:
    """Draws `transfer` events; the last event of a transfer ends its bar."""

    def __init__(self, console: Console) -> None:
        self._console, self._next_seconds = console, 0.0
        self._progress: Progress | None = None

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if self._console.is_terminal:
            self._move(event)
        elif event["done"] == event["total"] or time.monotonic() >= self._next_seconds:
            self._next_seconds = time.monotonic() + PLAIN_SECONDS
            self._console.print(Text(_how_far(event)), soft_wrap=True)

    def stop(self) -> None:
        """Stop the bar and leave it on screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _move(self, event: Event) -> None:
        if self._progress is None:
            columns = BarColumn(bar_width=None), TextColumn("{task.description}")
            self._progress = Progress(*columns, console=self._console, expand=True)
            self._progress.add_task("", total=event["total"])
            self._progress.start()
        task = self._progress.tasks[0].id
        self._progress.update(task, completed=event["done"], description=_how_far(event), refresh=True)
        if event["done"] == event["total"]:
            self.stop()


def _how_far(event: Event) -> str:
    done, total = event["done"], event["total"]
    share = 100 * done / total if total else 100
    text = f"{share:.0f}%  {shown(f'{readable_bytes(done)} of {readable_bytes(total)}')}"
    left = event["seconds_left"]
    return text if left is None or done == total else f"{text}  {shown(f'{readable_seconds(left)} left')}"


def download_shown(settings: ModelSettings) -> None:
    """Download the missing files of a hub's model and show the progress; prints nothing if none is missing."""
    from ..models.hubs.fetch import fetch_model

    with transfer_console() as listener:
        fetch_model(settings, listener)


@contextmanager
def transfer_console(console: Console | None = None) -> Iterator[Listener]:
    """Yield a listener that draws stages and transfers; the terminal is restored in any case."""
    console = console or make_console()
    transfers = Transfers(console)

    def draw(event: Event) -> None:
        if event["event"] == "transfer":
            transfers(event)
        elif event["event"] == "stage":
            console.print(Text(f"{shown(event['text'])} ...", style="dim"), soft_wrap=True)

    try:
        yield draw
    finally:
        transfers.stop()
