"""Shows the progress of a run: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..core.events import Event
from ..core.locale import shown
from ..core.units import readable_bytes, readable_loss, readable_seconds
from ..core.visible import visible

PLAIN_SECONDS = 5.0
"""Least time between two progress lines without a terminal."""


class Steps(Protocol):
    """Shows the current stage and its progress."""

    def stage(self, text: str) -> None:
        """Begin a stage that takes a while."""

    def start(self, event: Event) -> None:
        """Begin the steps."""

    def step(self, event: Event) -> None:
        """Show one step."""

    def progress(self, event: Event) -> None:
        """Show the progress of something other than steps."""

    def stop(self) -> None:
        """Stop showing progress."""


class LiveSteps:
    """A moving bar, and a spinner for stages of unknown length."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: Progress | None = None
        self._steps: TaskID | None = None
        self._beside: TaskID | None = None
        self._stage = ""

    def stage(self, text: str) -> None:
        """Show a spinner with the text and the elapsed time."""
        self.stop()
        self._stage = text = visible(shown(text))
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._drawn = Progress(*columns, console=self._console, transient=True)
        self._drawn.add_task(f"{text} ...", total=None)
        self._drawn.start()

    def start(self, event: Event) -> None:
        """Show the bar, starting at the step a resumed run continues from."""
        self._stage = ""
        self._steps = self._bars().add_task("", total=event["steps"], completed=event["step"], numbers="")

    def step(self, event: Event) -> None:
        """Move the bar."""
        if self._drawn is not None and self._steps is not None:
            self._end_beside()
            self._drawn.update(self._steps, completed=event["step"], numbers=short_numbers(event))

    def progress(self, event: Event) -> None:
        """Show a separate bar, which is removed at its end."""
        total = event.get("total")
        drawn = self._drawn if self._drawn is not None and self._steps is not None else None
        if total is not None and event["done"] >= total:
            self._end_beside()
            return
        if self._beside is None:
            drawn = drawn or self._bars(transient=True)
            self._beside = drawn.add_task(
                self._stage or visible(shown(event.get("what", ""))), total=total, numbers=""
            )
        drawn = drawn or self._drawn
        if drawn is not None:
            drawn.update(self._beside, completed=event["done"], numbers=progress_text(event), refresh=True)

    def stop(self) -> None:
        """Leave the steps' bar on screen and remove everything else."""
        self._end_beside()
        if self._drawn is not None:
            self._drawn.stop()
        self._drawn = self._steps = None

    def _bars(self, *, transient: bool = False) -> Progress:
        self.stop()
        columns = (
            *([TextColumn("{task.description}", markup=False)] if transient else []),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[numbers]}", markup=False),
        )
        self._drawn = Progress(*columns, console=self._console, expand=True, transient=transient)
        self._drawn.start()
        return self._drawn

    def _end_beside(self) -> None:
        if self._drawn is not None and self._beside is not None:
            self._drawn.remove_task(self._beside)
        self._beside = None


class PlainSteps:
    """A line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_seconds = 0.0

    def stage(self, text: str) -> None:
        """Print the stage that begins."""
        self._next_seconds = 0.0
        self._console.print(Text(f"{shown(text)} ...", style="dim"), soft_wrap=True)

    def start(self, event: Event) -> None:
        """Print the number of steps; the first step is printed without delay."""
        self._next_seconds = 0.0
        self._print(shown(f"{event['steps']} steps, written to {event['out']}"))

    def step(self, event: Event) -> None:
        """Print a step, unless a line was printed a moment ago; always print the last step."""
        if event["step"] == event["steps"] or self._is_due():
            self._next_seconds = time.monotonic() + PLAIN_SECONDS
            self._print(f"{shown('step')} {short_numbers(event)}")

    def progress(self, event: Event) -> None:
        """Print the progress and the time left, unless a line was printed a moment ago."""
        if self._is_due():
            what = event.get("what")
            self._print(f"{shown(what)}: {progress_text(event)}" if what else progress_text(event))

    def stop(self) -> None:
        """Do nothing: printed lines need no clean-up."""

    def _is_due(self) -> bool:
        now_seconds = time.monotonic()
        if now_seconds < self._next_seconds:
            return False
        self._next_seconds = now_seconds + PLAIN_SECONDS
        return True

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def short_numbers(event: Event) -> str:
    """Return step, loss, speed, time left and memory, short enough to fit beside a bar in 80 columns."""
    parts = [
        f"{event['step']}/{event['steps']}",
        shown(f"loss {number(event['loss'])}"),
        shown(f"{event['tokens_per_second']:.0f} tok/s"),
        shown(f"{readable_seconds(event['seconds_left'])} left"),
        readable_bytes(event["memory_bytes"]),
    ]
    gpu_bytes = event.get("gpu_memory_bytes")
    return "  ".join([*parts, f"GPU {readable_bytes(gpu_bytes)}"] if gpu_bytes else parts)


def progress_text(event: Event) -> str:
    """Return the share done and the time left, or the count if the total is unknown."""
    if event.get("total") is None:
        return visible(f"{event['done']:,} {shown(event['unit'])}")
    left = shown(f"{readable_seconds(event['seconds_left'])} left")
    return f"{100 * event['done'] / event['total']:.0f}%  {left}"


def number(value: Any) -> str:  # noqa: ANN401  (a number, or the name of one that is not finite)
    """Return a loss as text for a person."""
    return readable_loss(value) if isinstance(value, float | int) else str(value)
