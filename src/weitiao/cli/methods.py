"""List the training methods, or explain one: what is trained, its formula, settings and paper."""

from __future__ import annotations

import click

from ._commands import Command


@click.command(cls=Command)
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the training methods, or explain the one NAMEd."""
    if name is None:
        _list()
    else:
        _explain(name)


def _list() -> None:
    from ..methods import METHODS
    from ._tables import make_console, plain_table

    table = plain_table("method", "what is trained", "merges", "when", "paper")
    table.columns[-1].no_wrap = True
    for name in METHODS.names():
        method = METHODS.load(name)
        paper = method.paper.removeprefix("https://")
        table.add_row(name, method.trains, "yes" if method.merges else "no", method.when, paper)
    console = make_console()
    console.print(table)
    console.print("\nOne of them in full: weitiao methods NAME")


def _explain(name: str) -> None:
    from ..methods import METHODS
    from ._tables import make_console, settings_table

    method = METHODS.load(name)
    facts = {
        "what is trained": method.trains,
        "formula": method.formula,
        "when": method.when,
        "merges into the base": "yes" if method.merges else "no",
        "on a base in 4 or 8 bits": "yes" if method.on_quantized else "no",
        "learning rate": f"{method.suggested_lr:g}, unless train.lr says otherwise",
        "paper": method.paper,
    }
    console = make_console()
    console.print(f"[bold]{method.title}[/bold] (method.name={name})")
    console.print(METHODS.summary(name) + "\n", markup=False)
    for label, text in facts.items():
        if text:
            console.print(f"{label + ':':<26}{text}", markup=False, soft_wrap=True)
    console.print()
    console.print(settings_table(method, "method"))
