"""How far a run is, drawn as it goes: a bar on a terminal, another in a notebook, plain lines everywhere else."""

from __future__ import annotations

import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..core.events import Event
from ..core.units import readable_bytes, readable_loss, readable_seconds
from ..core.visible import visible

PLAIN_SECONDS = 5.0
"""The least time between two progress lines where there is no terminal."""


class Steps(Protocol):
    """Shows what goes on, and how far it is."""

    def stage(self, text: str) -> None:
        """Begin something that takes a while."""

    def start(self, event: Event) -> None:
        """Begin the steps."""

    def step(self, event: Event) -> None:
        """Show one step."""

    def progress(self, event: Event) -> None:
        """Show how far something beside the steps is."""

    def stop(self) -> None:
        """Show no more."""


class LiveSteps:
    """A bar that moves, and a wheel that turns while something goes on whose end is not known."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: Progress | None = None
        self._steps: TaskID | None = None
        self._beside: TaskID | None = None
        self._stage = ""

    def stage(self, text: str) -> None:
        """Turn a wheel beside the text, with the time that has passed."""
        self.stop()
        self._stage = text = visible(text)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._drawn = Progress(*columns, console=self._console, transient=True)
        self._drawn.add_task(f"{text} ...", total=None)
        self._drawn.start()

    def start(self, event: Event) -> None:
        """Show the bar, beginning at the step a resumed run goes on from."""
        self._stage = ""
        self._steps = self._bars().add_task("", total=event["steps"], completed=event["step"], numbers="")

    def step(self, event: Event) -> None:
        """Move the bar."""
        if self._drawn is not None and self._steps is not None:
            self._end_beside()
            self._drawn.update(self._steps, completed=event["step"], numbers=short_numbers(event))

    def progress(self, event: Event) -> None:
        """Move a bar of its own, which goes away at its end."""
        total = event.get("total")
        drawn = self._drawn if self._drawn is not None and self._steps is not None else None
        if total is not None and event["done"] >= total:
            self._end_beside()
            return
        if self._beside is None:
            drawn = drawn or self._bars(transient=True)
            self._beside = drawn.add_task(
                self._stage or visible(event.get("what", "")), total=total, numbers=""
            )
        drawn = drawn or self._drawn
        if drawn is not None:
            drawn.update(self._beside, completed=event["done"], numbers=progress_text(event), refresh=True)

    def stop(self) -> None:
        """Leave the steps' bar standing as it is, and take everything else away."""
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
        """Say what begins."""
        self._next_seconds = 0.0
        self._console.print(Text(f"{text} ...", style="dim"), soft_wrap=True)

    def start(self, event: Event) -> None:
        """Say how many steps there are; the first of them is shown."""
        self._next_seconds = 0.0
        self._print(f"{event['steps']} steps, written to {event['out']}")

    def step(self, event: Event) -> None:
        """Show a step, unless the last line is a moment ago; the last step always."""
        if event["step"] == event["steps"] or self._is_due():
            self._next_seconds = time.monotonic() + PLAIN_SECONDS
            self._print(f"step {short_numbers(event)}")

    def progress(self, event: Event) -> None:
        """Show how far it is and the time left, unless the last line is a moment ago."""
        if self._is_due():
            what = event.get("what")
            self._print(f"{what}: {progress_text(event)}" if what else progress_text(event))

    def stop(self) -> None:
        """Do nothing: a line is complete as it is."""

    def _is_due(self) -> bool:
        now_seconds = time.monotonic()
        if now_seconds < self._next_seconds:
            return False
        self._next_seconds = now_seconds + PLAIN_SECONDS
        return True

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def short_numbers(event: Event) -> str:
    """Return number, loss, speed, time left and memory of a step, short enough for 80 columns beside a bar."""
    parts = [
        f"{event['step']}/{event['steps']}",
        f"loss {number(event['loss'])}",
        f"{event['tokens_per_second']:.0f} tok/s",
        f"{readable_seconds(event['seconds_left'])} left",
        readable_bytes(event["memory_bytes"]),
    ]
    gpu_bytes = event.get("gpu_memory_bytes")
    return "  ".join([*parts, f"GPU {readable_bytes(gpu_bytes)}"] if gpu_bytes else parts)


def progress_text(event: Event) -> str:
    """Return the share that is done with the time left, or, where the end is not known, what was counted."""
    if event.get("total") is None:
        return visible(f"{event['done']:,} {event['unit']}")
    return f"{100 * event['done'] / event['total']:.0f}%  {readable_seconds(event['seconds_left'])} left"


def number(value: Any) -> str:  # noqa: ANN401  (a number, or the name of one that is not finite)
    """Return a loss as a person reads it."""
    return readable_loss(value) if isinstance(value, float | int) else str(value)
