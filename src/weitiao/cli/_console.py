"""What a run shows while it trains: live on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..core.events import Event, Listener
from ..core.units import readable_bytes, readable_count, readable_seconds, readable_share
from ..core.visible import visible
from ._tables import make_console

PLAIN_SECONDS = 5.0
"""The least time between two progress lines where there is no terminal."""
WIDE_COLUMNS = 110
"""From this width on, the data's own answer stands beside the two others."""


class Steps(Protocol):
    """Shows how far the steps are."""

    def start(self, event: Event) -> None:
        """Begin to show."""

    def step(self, event: Event) -> None:
        """Show one step."""

    def progress(self, event: Event) -> None:
        """Show how far something before the steps is."""

    def stop(self) -> None:
        """Show no more."""


class RunConsole:
    """Draws a run's events; those it does not know it passes over."""

    def __init__(self, console: Console, steps: Steps) -> None:
        self._console, self._steps = console, steps
        self._draw: Mapping[str, Callable[[Event], None]] = {
            "stage": self._stage,
            "progress": self._steps.progress,
            "data": self._data,
            "parameters": self._parameters,
            "started": self._steps.start,
            "step": self._steps.step,
            "before": self._before,
            "evaluated": self._evaluated,
            "answers": self._answers,
            "checkpoint": self._pass_over,
            "resumed": self._resumed,
            "memory": self._memory,
            "note": self._note,
            "read_as": self._read_as,
            "finished": self._finished,
        }

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        self._draw.get(event["event"], self._pass_over)(event)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        self._steps.stop()

    def _pass_over(self, event: Event) -> None:
        pass

    def _print(self, *lines: RenderableType) -> None:
        for line in lines:
            self._console.print(line, soft_wrap=isinstance(line, Text))

    def _stage(self, event: Event) -> None:
        self._steps.stop()
        self._print(Text(f"{event['text']} ...", style="dim"))

    def _data(self, event: Event) -> None:
        self._print(_heading("data"), *map(Text, event.get("lines", [])))

    def _parameters(self, event: Event) -> None:
        trainable, everything = event["trainable"], event["all"]
        numbers = f"{trainable:,} / {everything:,} / {readable_share(trainable, everything)}"
        self._print(
            _heading("trainable parameters / all / percent"),
            Text(f"{numbers}   ({readable_count(trainable)} of {readable_count(everything)})"),
        )

    def _before(self, event: Event) -> None:
        if event["held_out"]:
            loss, perplexity = (_number(event["held_out"][name]) for name in ("loss", "perplexity"))
            self._print(Text(f"before training: held-out loss {loss}, perplexity {perplexity}"))

    def _evaluated(self, event: Event) -> None:
        loss, perplexity = _number(event["loss"]), _number(event["perplexity"])
        self._print(Text(f"step {event['step']}: held-out loss {loss}, perplexity {perplexity}"))

    def _resumed(self, event: Event) -> None:
        self._print(Text(f"going on from step {event['step']}"))

    def _memory(self, event: Event) -> None:
        self._print(Text(event["text"]))

    def _note(self, event: Event) -> None:
        self._print(Text(f"note: {event['text']}"))

    def _read_as(self, event: Event) -> None:
        self._print(Text(event["text"], style="dim"))

    def _answers(self, event: Event) -> None:
        if event["rows"]:
            self._steps.stop()
            self._print(_heading("the same questions, before and after"))
            self._print(answers_table(event["rows"], self._console.width))

    def _finished(self, event: Event) -> None:
        self._steps.stop()
        held_out = event.get("held_out") or {}
        if held_out.get("before") and held_out.get("after"):
            self._print(_heading("on held-out data"), scores_table(held_out["before"], held_out["after"]))
        peak = readable_bytes(event["peak_memory_bytes"])
        self._print(
            _heading("done"), Text(f"in {readable_seconds(event['seconds'])}, at most {peak} of memory")
        )
        self._print(*where_it_lies(event["out"], event["adapter"]))


class LiveSteps:
    """A bar that moves."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            expand=True,
        )
        self._task: TaskID | None = None

    def start(self, event: Event) -> None:
        """Show the bar, beginning at the step a resumed run goes on from."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(
            "steps", total=event["steps"], completed=event["step"], numbers=""
        )
        self._progress.start()

    def step(self, event: Event) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=event["step"], numbers=_short_numbers(event))

    def progress(self, event: Event) -> None:
        """Move a bar of its own, which the steps' bar takes the place of."""
        if self._task is None:
            self._task = self._progress.add_task("", total=event["total"], numbers="")
            self._progress.start()
        self._progress.update(self._task, completed=event["done"], numbers=_time_left(event), refresh=True)

    def stop(self) -> None:
        """Leave the bar standing as it is."""
        self._progress.stop()


class PlainSteps:
    """A line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_seconds = 0.0

    def start(self, event: Event) -> None:
        """Say how many steps there are; the first of them is shown."""
        self._next_seconds = 0.0
        self._print(f"{event['steps']} steps, written to {event['out']}")

    def step(self, event: Event) -> None:
        """Show a step, unless the last line is a moment ago; the last step always."""
        now_seconds = time.monotonic()
        if now_seconds >= self._next_seconds or event["step"] == event["steps"]:
            self._next_seconds = now_seconds + PLAIN_SECONDS
            self._print(f"step {event['step']}/{event['steps']}  {_short_numbers(event)}")

    def progress(self, event: Event) -> None:
        """Show a share and the time left, unless the last line is a moment ago."""
        now_seconds = time.monotonic()
        if now_seconds >= self._next_seconds:
            self._next_seconds = now_seconds + PLAIN_SECONDS
            self._print(f"{100 * event['done'] / event['total']:.0f}%  {_time_left(event)}")

    def stop(self) -> None:
        """Do nothing: a line is complete as it is."""

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


@contextmanager
def run_console(console: Console | None = None) -> Iterator[Listener]:
    """Yield a listener that draws a run on stdout; whatever happens, the terminal is left as it was."""
    console = console or make_console()
    steps: Steps = LiveSteps(console) if console.is_terminal else PlainSteps(console)
    drawing = RunConsole(console, steps)
    try:
        yield drawing
    finally:
        drawing.close()


def answers_table(rows: Sequence[Mapping[str, str]], width: int) -> RenderableType:
    """Return the answers before and after side by side, each under its question, with the data's where it fits."""
    return Group(*(_one_answer(row, with_reference=width >= WIDE_COLUMNS) for row in rows))


def _one_answer(row: Mapping[str, str], *, with_reference: bool) -> RenderableType:
    headings = {"before": "before", "after": "after"}
    if with_reference and row["reference"]:
        headings["reference"] = "the data's answer"
    table = Table(expand=True)
    for key, heading in headings.items():
        table.add_column(heading, ratio=1, overflow="fold", style="green" if key == "after" else "")
    # As Text, so that no markup is read in what a model says.
    table.add_row(*(Text(visible(row[key]) or "(nothing)") for key in headings))
    return Group(Text(f"? {visible(row['question'])}", style="bold"), table)


def scores_table(before: Mapping[str, float], after: Mapping[str, float]) -> Table:
    """Return the held-out loss and perplexity before and after."""
    table = Table("", "before", "after", "change")
    for name in ("loss", "perplexity"):
        old, new = before[name], after[name]
        table.add_row(name, _number(old), _number(new), f"{100 * (new - old) / old:+.1f}%" if old else "")
    return table


def where_it_lies(out: str, adapter: str) -> list[Text]:
    """Return where a run's things are, and what to type next, a line each that can be copied whole."""
    from ..evaluation.report import next_commands

    commands = next_commands(out)
    lines = {
        "result": adapter,
        "report": f"{out}/report.md",
        "run file": f"{out}/run.yaml",
        "talk to it": commands["chat"],
        "compare": commands["compare"],
        "merge": commands["merge"],
    }
    return [Text.assemble((f"{label:<12}", "bold"), text) for label, text in lines.items()]


def _heading(text: str) -> RenderableType:
    return Group(Text(), Rule(Text(text, style="bold"), align="left"))


def _short_numbers(event: Event) -> str:
    """Return loss, speed, time left and memory of a step, short enough for 80 columns beside a bar."""
    parts = [
        f"loss {_number(event['loss'], 3)}",
        f"{event['tokens_per_second']:.0f} tok/s",
        _time_left(event),
        readable_bytes(event["memory_bytes"]),
    ]
    gpu_bytes = event.get("gpu_memory_bytes")
    return "  ".join([*parts, f"GPU {readable_bytes(gpu_bytes)}"] if gpu_bytes else parts)


def _time_left(event: Event) -> str:
    return f"{readable_seconds(event['seconds_left'])} left"


def _number(value: Any, digits: int = 4) -> str:  # noqa: ANN401  (a number, or the name of one that is not finite)
    return f"{value:.{digits}f}" if isinstance(value, float | int) else str(value)
