"""List every setting of a run file with its default: all of it, one block, one method, or one setting by any name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..core.errors import SettingsError, unknown_name
from ._commands import Command
from ._completion import blocks

if TYPE_CHECKING:
    from rich.console import Console


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=blocks)
def command(name: str | None) -> None:
    """List every setting of a run file, or those of NAME.

    NAME is a block (model, data, train, evaluate, track), a method, or one setting, also by its name in transformers,
    PEFT or LLaMA-Factory.
    """
    from ..methods import METHODS
    from ..recipe.names.own import FIXED
    from ._tables import make_console, settings_table

    console = make_console()
    blocks = {path: cls for path, cls in FIXED.items() if "." not in path}
    if name is not None and name.lower() == "method":
        console.print(
            "weitiao settings METHOD lists the settings of a method, weitiao methods what there are"
        )
    elif name is not None and METHODS.spelling(name) is not None:
        console.print(settings_table(METHODS.load(name), "method"))
    elif name is not None and name.lower() not in blocks:
        _print_one(console, name)
    else:
        for block in [name.lower()] if name else blocks:
            console.print(settings_table(blocks[block], block))
            console.print()


def _print_one(console: Console, name: str) -> None:
    """Print what one setting is, or what another tool's name becomes; raises SettingsError for an unknown name."""
    from ..recipe.names.own import FIXED, dotted_settings, homes
    from ..recipe.names.table import entries, known_names
    from ._tables import plain_table, setting_rows

    read = entries(name.rpartition(".")[2])
    found = homes(name.rpartition(".")[2], FIXED) or [one.becomes for one in read]
    table = plain_table("setting", "default", "what it does")
    for dotted in dict.fromkeys(found):
        path, _, key = dotted.rpartition(".")
        if path in FIXED and key in FIXED[path].model_fields:
            for row in setting_rows(dotted, FIXED[path].model_fields[key]):
                table.add_row(*row)
    if not found:
        raise SettingsError(
            unknown_name("setting", name, [*dotted_settings(), *known_names()], "weitiao settings")
        )
    for one in read:
        console.print(f"{name} ({one.source}): {one.becomes}", markup=False)
    if table.row_count:
        console.print(table)
