"""List every setting of a run file with its default: all of it, or one block."""

from __future__ import annotations

import click

from ..core.errors import SettingsError, unknown_name
from ._commands import Command


@click.command(cls=Command)
@click.argument("block", required=False)
def command(block: str | None) -> None:
    """List every setting of a run file, or those of one BLOCK (model, data, train, evaluate, track)."""
    from ..core.settings import Settings
    from ..recipe.recipe import Recipe
    from ._tables import make_console, settings_table

    blocks = {
        name: field.annotation
        for name, field in Recipe.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    }
    console = make_console()
    if block == "method":
        console.print("weitiao methods NAME lists the settings of a method")
        return
    if block is not None and block not in blocks:
        raise SettingsError(unknown_name("block", block, blocks))
    for name in [block] if block else blocks:
        if blocks[name].model_fields:
            console.print(settings_table(blocks[name], name))
            console.print()
