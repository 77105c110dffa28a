"""What a run shows while it trains: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..core.events import Event, Listener
from ..core.locale import shown
from ..core.units import readable_change, readable_count, readable_share
from ..core.visible import columns_of, padded, visible
from ..data.gate.summary import LABEL_COLUMNS
from ..evaluation.answer_scores import AnswerScore, scores_of
from ..evaluation.answers import CUT_MARK, earlier_text, marked
from ..evaluation.verdict import lines
from ..recipe.progress import LiveSteps, PlainSteps, Steps
from ..recipe.told import before_lines, chosen_of, cost_text, evaluated_lines, written_measures
from ._tables import make_console
from ._transfers import Transfers

LABEL_STYLES = {"warning": "yellow", "error": "bold red"}
AS_IN_DATA = "the data's answer"
"""Heading of the answer that the data has for a question."""
WIDE_COLUMNS = 110
"""From this width on, the reference answer is a third column."""


class RunConsole:
    """Draws a run's events; unknown events are ignored."""

    def __init__(self, console: Console, steps: Steps) -> None:
        self._console, self._steps, self._transfers = console, steps, Transfers(console)
        self._kind = "done"
        self._verdict_lines: list[str] = []
        self._draw: Mapping[str, Callable[[Event], None]] = {
            "stage": self._stage,
            "progress": self._steps.progress,
            "transfer": self._transfers,
            "data": self._data,
            "choices": self._choices,
            "parameters": self._parameters,
            "chosen": self._chosen,
            "started": self._steps.start,
            "step": self._steps.step,
            "before": self._before,
            "evaluated": self._evaluated,
            "answers": self._answers,
            "checkpoint": self._pass_over,
            "resumed": self._resumed,
            "memory": self._memory,
            "note": self._note,
            "verdict": self._verdict,
            "read_as": self._read_as,
            "finished": self._finished,
        }

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        self._draw.get(event["event"], self._pass_over)(event)

    def close(self) -> None:
        """Stop live displays and leave the terminal as it was."""
        self._transfers.stop()
        self._steps.stop()

    def _pass_over(self, event: Event) -> None:
        pass

    def _print(self, *lines: RenderableType) -> None:
        """Print lines, wrapped between words on a terminal; a pipe gets each line unwrapped."""
        for line in lines:
            self._console.print(line, soft_wrap=isinstance(line, Text) and not self._console.is_terminal)

    def _print_whole(self, *lines: Text) -> None:
        """Print lines meant to be copied, without wrapping them."""
        for line in lines:
            self._console.print(line, soft_wrap=True)

    def _stage(self, event: Event) -> None:
        self._steps.stage(event["text"])

    def _data(self, event: Event) -> None:
        self._steps.stop()
        self._print(_heading("data"), *map(self._labelled, event.get("lines", [])))

    def _labelled(self, line: str) -> RenderableType:
        """Return a line of the data summary; on a terminal, wrapped text is indented to the label's width."""
        label, text = line[:LABEL_COLUMNS], line[LABEL_COLUMNS:]
        if not label.endswith(" "):
            return Text(shown(line))
        label = label.strip()
        return self._hanging(padded(shown(label), LABEL_COLUMNS), shown(text), LABEL_STYLES.get(label, ""))

    def _hanging(self, label: str, text: str, style: str) -> RenderableType:
        """Return a label and its text; on a terminal, wrapped lines stay to the right of the label."""
        if not self._console.is_terminal:
            return Text.assemble((label, style), text)
        table = Table.grid()
        table.add_column(width=columns_of(label), no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(Text(label, style=style), Text(text))
        return table

    def _choices(self, event: Event) -> None:
        self._print(_heading("chosen for this model and this data"))
        width = max(len(row["setting"]) + len(_short(row["value"])) for row in event["rows"]) + 1
        for row in event["rows"]:
            setting = f"{row['setting']}={_short(row['value'])}"
            self._print(self._hanging(f"{setting:<{width + 2}}", shown(row["reason"]), "bold"))

    def _parameters(self, event: Event) -> None:
        trainable, everything = event["trainable"], event["all"]
        numbers = f"{trainable:,} / {everything:,} / {readable_share(trainable, everything)}"
        self._print(
            _heading("trainable parameters / all / percent"),
            Text(f"{numbers}   ({shown(f'{readable_count(trainable)} of {readable_count(everything)}')})"),
        )

    def _chosen(self, event: Event) -> None:
        self._steps.stop()
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for label, said in chosen_of(event).rows():
            table.add_row(shown(label), Text(shown(said)))
        self._print(_heading("training"), table)

    def _before(self, event: Event) -> None:
        self._print(*map(_text, before_lines(event)))

    def _evaluated(self, event: Event) -> None:
        self._print(*map(_text, evaluated_lines(event)))

    def _resumed(self, event: Event) -> None:
        self._print(_text(f"continuing from step {event['step']}"))

    def _memory(self, event: Event) -> None:
        self._print(_text(event["text"]))

    def _note(self, event: Event) -> None:
        self._print(_text(f"note: {event['text']}"))

    def _read_as(self, event: Event) -> None:
        self._print(Text(shown(event["text"]), style="dim"))

    def _answers(self, event: Event) -> None:
        if event["rows"]:
            self._steps.stop()
            self._print(_heading("the same questions, before and after"))
            self._print(answers_table(event["rows"], self._console.width))
            if scores := scores_of(event.get("scores", [])):
                self._print(answer_scores_view(scores))

    def _verdict(self, event: Event) -> None:
        self._kind, self._verdict_lines = event["kind"], lines(event)

    def _finished(self, event: Event) -> None:
        self._steps.stop()
        held_out = event.get("held_out") or {}
        if held_out.get("before") and held_out.get("after"):
            self._print(_heading("on held-out data"), scores_view(held_out["before"], held_out["after"]))
        self._print(
            _heading(self._kind), *map(_text, self._verdict_lines), _text(f"finished {cost_text(event)}")
        )
        self._print_whole(*next_steps(event["out"], event["adapter"]))


@contextmanager
def run_console(console: Console | None = None) -> Iterator[Listener]:
    """Yield a listener that draws a run on stdout; the terminal is restored in any case."""
    console = console or make_console()
    steps: Steps = LiveSteps(console) if console.is_terminal else PlainSteps(console)
    drawing = RunConsole(console, steps)
    try:
        yield drawing
    finally:
        drawing.close()


def answers_table(rows: Sequence[Mapping[str, Any]], width: int) -> RenderableType:
    """Return the answers before and after side by side under their question, and the reference answer if any.

    On a narrow terminal the reference answer is printed below the other two.
    """
    cut = any(row.get(f"{which}_cut") for row in rows for which in ("before", "after", "reference"))
    note = (
        [Text(shown(f"{CUT_MARK} cut off: evaluate.generation.max_new_tokens"), style="dim")] if cut else []
    )
    return Group(*(_one_answer(row, beside=width >= WIDE_COLUMNS) for row in rows), *note)


def _one_answer(row: Mapping[str, Any], *, beside: bool) -> RenderableType:
    headings = {"before": "before", "after": "after"}
    texts = {key: _answer(row[key], bool(row.get(f"{key}_cut"))) for key in headings}
    reference = marked(visible(row["reference"]), bool(row.get("reference_cut")))
    if reference and beside:
        headings["reference"], texts["reference"] = AS_IN_DATA, reference
    table = Table(expand=True)
    for key, heading in headings.items():
        table.add_column(shown(heading), ratio=1, overflow="fold", style="green" if key == "after" else "")
    # Text, not str: rich must not interpret markup in a model's answer.
    table.add_row(*(Text(texts[key]) for key in headings))
    below = (
        [Padding(Text(f"{shown(AS_IN_DATA)}{shown(': ')}{reference}"), (0, 2))]
        if reference and not beside
        else []
    )
    earlier = visible(earlier_text(row))
    above = [Text(f"  {earlier}", style="dim", no_wrap=True, overflow="ellipsis")] if earlier else []
    return Group(*above, Text(f"? {visible(row['question'])}", style="bold"), table, *below)


def _answer(text: str, cut: bool) -> str:
    return marked(visible(text), cut) or shown("(nothing)")


def answer_scores_view(scores: Sequence[AnswerScore]) -> Table:
    """Return a table of what every metric says of the answers, before and after."""
    table = Table("", *map(shown, ("before", "after")))
    for score in scores:
        table.add_row(*map(shown, score.row()))
    return table


def scores_view(before: Mapping[str, float], after: Mapping[str, float]) -> Table:
    """Return a table of the held-out loss and the other measures, before and after."""
    table = Table("", *map(shown, ("before", "after", "change")))
    old, new = written_measures(before), written_measures(after)
    for name in old:
        if name in new:
            table.add_row(shown(name), old[name], new[name], readable_change(before[name], after[name]))
    return table


def next_steps(out: str, adapter: str) -> list[Text]:
    """Return the paths of a run's results and the next commands, one line each, to be copied whole."""
    from ..evaluation.loading_code import next_commands

    commands = next_commands(out)
    lines = {
        "result": adapter,
        "report": f"{out}/report.md",
        "run file": f"{out}/run.yaml",
        "chat": commands["chat"],
        "compare": commands["compare"],
        "merge": commands["merge"],
    }
    return [Text.assemble((padded(shown(label), 12), "bold"), text) for label, text in lines.items()]


def _heading(text: str) -> RenderableType:
    return Group(Text(), Rule(Text(shown(text), style="bold"), align="left"))


def _text(line: str) -> Text:
    """Return a line in the language in use."""
    return Text(shown(line))


def _short(value: float | str) -> str:
    """Return a setting's value as a person types it."""
    return value if isinstance(value, str) else f"{value:g}"
