"""List every setting of a run file with its default: all of it, one block, one method, or one setting by any name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from ..core.errors import SettingsError, unknown_name
from ._commands import Command
from ._completion import blocks

if TYPE_CHECKING:
    from rich.console import Console

DOTTED = re.compile(r"\b[a-z]+(?:\.[a-z_]+)+\b")
"""A dotted setting name inside a sentence."""


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
    """Print one setting, or what another tool's name becomes; raises SettingsError for an unknown name."""
    from ..recipe.names.own import FIXED, dotted_settings, homes
    from ..recipe.names.table import entries, names_of_other_tools
    from ._tables import plain_table

    path, _, key = name.rpartition(".")
    path = path.lower()
    own = rows_of_setting(f"method.{key}") if path in ("", "method") else []
    read = entries(key) if path in ("", "method") and not own else ()
    found = homes(key, FIXED) if path != "method" else []
    found = found or [dotted for one in read for dotted in DOTTED.findall(one.becomes)]
    rows = [row for dotted in found for row in rows_of_setting(dotted)] or own
    rows = rows or [
        row for dotted in dotted_settings() for row in rows_of_setting(dotted) if row[0] == name.lower()
    ]
    if not read and not rows:
        raise SettingsError(
            unknown_name("setting", name, [*dotted_settings(), *names_of_other_tools()], "weitiao settings")
        )
    for one in read:
        console.print(f"{name} ({one.source}): {one.becomes}", markup=False)
    if rows:
        table = plain_table("setting", "default", "what it does")
        for row in dict.fromkeys(rows):
            table.add_row(*map(escape, row))
        console.print(table)


def rows_of_setting(dotted: str) -> list[tuple[str, str, str]]:
    """Return (key, default, description) of a dotted setting; a method setting has one row per meaning."""
    from ..recipe.names.own import FIXED, spelling
    from ._tables import setting_rows

    path, _, key = dotted.rpartition(".")
    if path == "method":
        return list(_method_rows(key))
    own = spelling(key, FIXED[path].model_fields) if path in FIXED else None
    return list(setting_rows(f"{path}.{own}", FIXED[path].model_fields[own])) if own else []


def _method_rows(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of a method setting, each with the methods that share it, the default method first."""
    from ..methods import METHODS
    from ..recipe.names.own import spelling
    from ..recipe.recipe import DEFAULT_NAMES
    from ._tables import setting_rows

    default_method = DEFAULT_NAMES["method"]["name"]
    methods_of: dict[tuple[str, str, str], list[str]] = {}
    for method in sorted(METHODS.names(), key=lambda method: method != default_method):
        fields = METHODS.load(method).model_fields
        if own := spelling(name, fields):
            for row in setting_rows(f"method.{own}", fields[own]):
                methods_of.setdefault(row, []).append(method)
    for (key, default, text), methods in methods_of.items():
        yield key, default, f"{text} ({', '.join(methods)})"
