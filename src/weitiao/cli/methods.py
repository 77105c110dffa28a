"""List the training methods, or explain one: what is trained, a drawing, what it costs, its settings and paper."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._commands import Command
from ._completion import methods

if TYPE_CHECKING:
    from rich.text import Text

    from ..methods._base import Method

WIDE_COLUMNS = 140
"""From this width on, descriptions are shown beside the figures."""
FIGURES = {"method": 20, "share": 12, "merges": 8, "inference cost": 18, "memory in training": 23}
"""Columns of the list and their widths including the gap."""
GAP = 2
UNKNOWN = "unknown"
NARROWEST = 12
"""Least width of wrapped text, on any terminal."""
FURTHER = "PEFT's other tuners, with PEFT's own settings: peft:NAME, such as peft:fourierft or peft:boft."
OF_WHAT = (
    "Share: of all parameters of Llama-3.1-8B, those that the method adds included, with default settings. "
    "Memory: beside the base's."
)


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=methods)
def command(name: str | None) -> None:
    """List the training methods, or explain the one NAMEd."""
    if name is None:
        _list()
    else:
        _explain(name)


def _list() -> None:
    from ._tables import make_console

    console = make_console()
    wide = console.width >= WIDE_COLUMNS
    widths = _widths(console.width, wide)
    header = _in_columns((*FIGURES, "what is trained", "when, and the paper"), widths)
    console.print(header, style="bold", soft_wrap=True)
    for family, members in _families():
        console.print(f"\n{family}", style="cyan")
        for name, method in members:
            when = f"{method.when} {method.paper.removeprefix('https://')}"
            cells = (f"  {name}", *_figures(method), method.trains, when)
            console.print(_bold_name(_in_columns(cells, widths)), soft_wrap=True)
            if not wide:
                words = f"Trains {method.trains}. {when}"
                console.print(_filled(words, console.width, " " * 4), markup=False, soft_wrap=True)
    console.print()
    for line in (OF_WHAT, "One of them in full: weitiao methods NAME", FURTHER):
        console.print(_filled(line, console.width), soft_wrap=True)


def _widths(width: int, wide: bool) -> list[int]:
    """Return the widths of the columns; only a wide list has columns for descriptions, which fit the paper's link."""
    *figures, memory = FIGURES.values()
    rest = width - sum(figures)
    if not wide:
        return [*figures, max(NARROWEST, rest)]
    trains = (rest - memory) * 2 // 5
    return [*figures, memory, trains, rest - memory - trains]


def _bold_name(row: str) -> Text:
    from rich.text import Text

    text = Text(row)
    text.stylize("bold", 0, FIGURES["method"])
    return text


def _families() -> Iterator[tuple[str, list[tuple[str, type[Method]]]]]:
    """Yield each family with the names and classes of its methods."""
    from ..methods import METHODS
    from ..methods._base import FAMILIES

    methods = [(name, METHODS.load(name)) for name in METHODS.names()]
    for family in FAMILIES:
        yield family, [(name, method) for name, method in methods if method.family == family]


def _figures(method: type[Method]) -> tuple[str, str, str, str]:
    """Return the figures of a method in the list."""
    return method.share, _yes_or_no(method.merges), method.inference_cost, method.memory


def _in_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return one row of the list: as many cells as there are widths, each wrapped within its column."""
    columns = [_wrapped(cell, width - GAP) for cell, width in zip(cells, widths, strict=False)]
    rows = zip_longest(*columns, fillvalue="")
    return "\n".join("".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _wrapped(text: str, width: int) -> list[str]:
    """Wrap text only at spaces, so that links and formulas stay whole; leading spaces are kept."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _filled(text: str, width: int, indent: str = "", label: str = "") -> str:
    """Return text wrapped to a width, indented to the right of a label."""
    lines = _wrapped(text, max(NARROWEST, width - len(indent)))
    return "\n".join([label.ljust(len(indent)) + lines[0], *(indent + line for line in lines[1:])])


def _explain(name: str) -> None:
    from ..methods import METHODS
    from ._tables import make_console, settings_table

    method, console = METHODS.load(name), make_console()
    name = METHODS.spelling(name) or name
    console.print(f"[bold]{method.title}[/bold] (method.name={name})")
    facts = _facts(method)
    indent = " " * (max(map(len, facts)) + 2)
    told = [_filled(text, console.width, indent, f"{label}:") for label, text in facts.items()]
    summary = METHODS.summary(name) if name in METHODS.names() else (method.__doc__ or "")
    for part in (_filled(summary, console.width), "", method.drawing, "", *told, ""):
        console.print(part, markup=False, soft_wrap=True)
    if method.model_fields:
        console.print(settings_table(method, "method"))
    else:
        console.print("It has no settings of its own.")
    runs = [run_line(name, method)]
    recipe = Path("recipes") / f"{name}.yaml"
    if recipe.is_file():
        runs.append(f"weitiao train {recipe}   (settings chosen for it)")
    console.print("\n".join(["\nRuns:", *(f"  {run}" for run in runs)]), markup=False, soft_wrap=True)


def _facts(method: type[Method]) -> dict[str, str]:
    """Return the facts about a method by label; facts that are unknown for PEFT's other tuners are left out."""
    facts = {
        "what is trained": method.trains,
        "formula": method.formula,
        "when": method.when,
        "share that trains": method.share,
        "merges into the base": _yes_or_no(method.merges),
        "inference cost": method.inference_cost,
        "memory in training": method.memory,
        "on a base in 4 or 8 bits": _yes_or_no(method.on_quantized),
        "learning rate": f"{method.suggested_lr:g}, unless train.lr says otherwise",
        "paper": method.paper,
    }
    if method.share != UNKNOWN:
        facts["share that trains"] += "; counted on Llama-3.1-8B"
    return {label: fact for label, fact in facts.items() if fact != UNKNOWN}


def run_line(name: str, method: type[Method]) -> str:
    """Return a command that trains with a method on the bundled data; settings without a default get example values."""
    from ._tables import shown

    settings = [f"method.{key}={shown(value).replace(', ', ',')}" for key, value in method.example.items()]
    start = (
        f"weitiao train --model smollm2-135m --data examples/tcm_en.json --method {name} --out runs/{name}"
    )
    return " ".join([start, *settings])


def _yes_or_no(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "PEFT decides; where it cannot, weitiao merge says why"}[value]
