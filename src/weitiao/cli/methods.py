"""List the training methods, or explain one: what is trained, a drawing, what it costs, its settings and paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.locale import shown
from ..core.visible import columns_of, padded
from ._commands import Command
from ._completion import methods
from ._wrap_text import hanging, in_columns, wrap

if TYPE_CHECKING:
    from rich.text import Text

    from ..methods._base import Method

WIDE_COLUMNS = 140
"""From this width on, descriptions are shown beside the figures."""
FIGURES = {"method": 20, "share": 12, "merges": 8, "inference cost": 18, "memory in training": 23}
"""Columns of the list and their widths including the gap."""
GAP = 2
UNKNOWN = "unknown"
NARROWEST_COLUMN = 12
"""Least width of the last column of the list."""
FURTHER = "PEFT's other tuners, with PEFT's settings: peft:NAME, such as peft:fourierft or peft:boft."
OF_WHAT = (
    "Share: the trained part of all parameters (the method's own included), for Llama-3.1-8B with default settings. "
    "Memory: in addition to the base's."
)


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=methods)
def command(name: str | None) -> None:
    """List the training methods, or explain the one called NAME."""
    if name is None:
        _list()
    else:
        _explain(name)


def _list() -> None:
    from ._tables import make_console

    console = make_console()
    wide = console.width >= WIDE_COLUMNS
    widths = _widths(console.width, wide)
    labels = (*FIGURES, "what is trained", "when to use it, and the paper")
    header = _in_columns(list(map(shown, labels)), widths)
    console.print(header, style="bold", soft_wrap=True)
    for family, members in _families():
        console.print(f"\n{shown(family)}", style="cyan")
        for name, method in members:
            when = f"{shown(method.when)} {method.paper.removeprefix('https://')}"
            cells = [f"  {name}", *map(shown, _figures(method)), shown(method.trains), when]
            console.print(_bold_name(_in_columns(cells, widths)), soft_wrap=True)
            if not wide:
                words = f"{shown(f'Trains {method.trains}.')} {when}"
                console.print(hanging(" " * 4, words, console.width), markup=False, soft_wrap=True)
    console.print()
    for line in (OF_WHAT, "All about one of them: weitiao methods NAME", FURTHER):
        console.print(hanging("", shown(line), console.width), soft_wrap=True)


def _widths(width: int, wide: bool) -> list[int]:
    """Return the widths of the columns; only a wide list has columns for descriptions, which fit the paper's link."""
    *figures, memory = FIGURES.values()
    rest = width - sum(figures)
    if not wide:
        return [*figures, max(NARROWEST_COLUMN, rest)]
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
    columns = [wrap(cell, width - GAP) for cell, width in zip(cells, widths, strict=False)]
    rows = zip_longest(*columns, fillvalue="")
    return "\n".join(in_columns(row, widths) for row in rows)


def _explain(name: str) -> None:
    from ..methods import METHODS
    from ._tables import make_console, settings_table

    method, console = METHODS.load(name), make_console()
    name = METHODS.spelling(name) or name
    console.print(f"[bold]{method.title}[/bold] (method.name={name})")
    facts = {f"{shown(label)}{shown(': ').rstrip()}": shown(fact) for label, fact in _facts(method).items()}
    label_columns = max(map(columns_of, facts)) + 1
    told = [hanging(padded(label, label_columns), fact, console.width) for label, fact in facts.items()]
    summary = METHODS.summary(name) if name in METHODS.names() else (method.__doc__ or "")
    for part in (hanging("", shown(summary), console.width), "", shown(method.drawing), "", *told, ""):
        console.print(part, markup=False, soft_wrap=True)
    if method.model_fields:
        console.print(settings_table(method, "method"))
    else:
        console.print(shown("It has no settings."))
    runs = [run_line(name, method)]
    recipe = Path("recipes") / f"{name}.yaml"
    if recipe.is_file():
        runs.append(f"weitiao train {recipe}   {shown('(settings tuned for it)')}")
    console.print(
        "\n".join([f"\n{shown('To run it:')}", *(f"  {run}" for run in runs)]), markup=False, soft_wrap=True
    )


def _facts(method: type[Method]) -> dict[str, str]:
    """Return the facts about a method by label; facts that are unknown for PEFT's other tuners are left out."""
    facts = {
        "what is trained": method.trains,
        "formula": method.formula,
        "when": method.when,
        "share trained": method.share,
        "merges into the base": _yes_or_no(method.merges),
        "inference cost": method.inference_cost,
        "memory in training": method.memory,
        "on a base in 4 or 8 bits": _yes_or_no(method.on_quantized),
        "learning rate": f"{method.suggested_lr:g}, unless train.lr sets another",
        "paper": method.paper,
    }
    if method.share != UNKNOWN:
        facts["share trained"] = f"{method.share}; counted on Llama-3.1-8B"
    return {label: fact for label, fact in facts.items() if fact != UNKNOWN}


def run_line(name: str, method: type[Method]) -> str:
    """Return a command that trains with a method on the bundled data; settings without a default get example values."""
    from ._tables import default_as_typed

    settings = [
        f"method.{key}={default_as_typed(value).replace(', ', ',')}" for key, value in method.example.items()
    ]
    start = (
        f"weitiao train --model smollm2-135m --data examples/tcm_en.json --method {name} --out runs/{name}"
    )
    return " ".join([start, *settings])


def _yes_or_no(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "depends on PEFT; weitiao merge says why where it cannot"}[value]
