"""What a run from Python shows: a few lines and a bar, in a notebook, on a terminal or in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..core.events import Event, Listener
from ..core.locale import shown
from ..core.units import is_longer, readable_bytes, readable_seconds, significant
from ..core.visible import columns_of, padded, visible
from ..evaluation.chosen import Chosen
from ..evaluation.report import data_line
from ..evaluation.verdict import lines as verdict_lines
from .progress import Steps, number


class Told:
    """Draws a run's events; unknown events are ignored."""

    def __init__(self, steps: Steps, say: Callable[[str], None]) -> None:
        """Draw progress with `steps` and lines with `say`."""
        self._steps, self._say = steps, say
        self._draw: Mapping[str, Callable[[Event], None]] = {
            "stage": lambda event: steps.stage(event["text"]),
            "progress": steps.progress,
            "started": steps.start,
            "step": steps.step,
        }

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        kind = event["event"]
        if kind in self._draw:
            self._draw[kind](event)
        elif kind in LINES:
            if kind in ENDS_STAGE:
                self._steps.stop()
            for line in LINES[kind](event):
                self._say(shown(line))


def chosen_of(event: Event) -> Chosen:
    """Return the content of a `chosen` event."""
    return Chosen.of_fields({key: value for key, value in event.items() if key not in ("event", "time")})


def _chosen_lines(event: Event) -> list[str]:
    rows = [(shown(label), shown(text)) for label, text in chosen_of(event).rows()]
    columns = max(columns_of(label) for label, _ in rows) + 2
    return [f"{padded(label, columns)}{text}" for label, text in rows]


def before_lines(event: Event) -> list[str]:
    """Return lines on the evaluation before training."""
    return [f"before training: {scores_text(event['held_out'])}"] if event["held_out"] else []


def evaluated_lines(event: Event) -> list[str]:
    """Return lines on a held-out evaluation."""
    return [f"step {event['step']}: {scores_text(event)}"]


def scores_text(fields: Mapping[str, Any]) -> str:
    """Return the held-out loss and the other measures as text."""
    more = (f"{name} {readable_measure(value)}" for name, value in measures_of(fields).items())
    return ", ".join([f"held-out loss {number(fields['loss'])}", *more])


NOT_MEASURED = ("event", "time", "step", "loss", "rows")
"""Fields of a held-out event other than the objective's measures."""


def measures_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the objective's measures besides the loss, by name."""
    return {name: value for name, value in fields.items() if name not in NOT_MEASURED}


def written_measures(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the loss and the other measures as text for a person, by name."""
    measures = {name: readable_measure(value) for name, value in measures_of(fields).items()}
    return {"loss": number(fields["loss"]), **measures}


def readable_measure(value: Any) -> str:  # noqa: ANN401  (a number, or the name of one that is not finite)
    """Return a measure such as a perplexity as text for a person."""
    return significant(value) if isinstance(value, float | int) else str(value)


def cost_text(event: Event) -> str:
    """Return the total time of a run, the time in steps if that is clearly less, and whether it stopped early."""
    made, planned = event.get("step"), event.get("steps")
    seconds = event["seconds"]
    whole = max(seconds, event.get("whole_seconds", 0.0))
    time = readable_seconds(whole)
    if is_longer(whole, seconds):
        training = f"training {readable_seconds(seconds)}"
        time = f"{time} ({training})"
    if made is not None and planned is not None and made < planned:
        time = f"{time}, stopped early after {made} of {planned} steps"
    return f"in {time}, at most {readable_bytes(event['peak_memory_bytes'])} of memory"


LINES: Mapping[str, Callable[[Event], list[str]]] = {
    "data": lambda event: [data_line(line, shown) for line in event.get("lines", [])],
    "chosen": _chosen_lines,
    "note": lambda event: [f"note: {event['text']}"],
    "resumed": lambda event: [f"continuing from step {event['step']}"],
    "before": before_lines,
    "evaluated": evaluated_lines,
    "verdict": lambda event: [f"verdict: {event['kind']}", *verdict_lines(event)],
    "finished": lambda event: [f"finished {cost_text(event)}: {event['out']}"],
}
ENDS_STAGE = ("data", "chosen", "verdict", "finished")
"""Events that end the current stage; the others may come while the steps' bar moves."""


@contextmanager
def telling(quiet: bool) -> Iterator[list[Listener]]:
    """Yield the listeners that show a run's progress in this Python; none if `quiet`."""
    if quiet:
        yield []
        return
    steps, say = _drawing()
    try:
        yield [Told(steps, say)]
    finally:
        steps.stop()


def _drawing() -> tuple[Steps, Callable[[str], None]]:
    """Return how to draw progress and lines: in a notebook, on a terminal or in a pipe."""
    from .notebook import NotebookSteps, in_notebook

    if in_notebook():
        drawn = NotebookSteps()
        return drawn, drawn.say
    from rich.console import Console
    from rich.text import Text

    from .progress import LiveSteps, PlainSteps

    console = Console(highlight=False)
    steps: Steps = LiveSteps(console) if console.is_terminal else PlainSteps(console)
    return steps, lambda line: console.print(Text(visible(line)), soft_wrap=not console.is_terminal)


@contextmanager
def staging(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current stage, until the next one or the end of the context."""
    if quiet:
        yield lambda _: None
        return
    steps, _ = _drawing()
    try:
        yield steps.stage
    finally:
        steps.stop()
