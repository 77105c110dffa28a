"""List every setting of a run file with its default: all of it, or one block."""

from __future__ import annotations

import click

from ..core.errors import SettingsError, unknown_name
from ._commands import Command
from ._completion import blocks, settings_blocks


@click.command(cls=Command)
@click.argument("block", required=False, shell_complete=blocks)
def command(block: str | None) -> None:
    """List every setting of a run file, or those of one BLOCK (model, data, train, evaluate, track)."""
    from ._tables import make_console, settings_table

    known = settings_blocks()
    console = make_console()
    if block == "method":
        console.print("weitiao methods NAME lists the settings of a method")
        return
    if block is not None and block not in known:
        raise SettingsError(unknown_name("block", block, known))
    for name in [block] if block else known:
        if known[name].model_fields:
            console.print(settings_table(known[name], name))
            console.print()
