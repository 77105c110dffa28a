"""List every setting of a run file with its default: all, one block, one method, or one setting by any name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from ..core.errors import SettingsError, unknown_name
from ..core.locale import shown
from ._commands import Command
from ._completion import blocks

if TYPE_CHECKING:
    from rich.console import Console

    from ..core.settings import Settings

DOTTED = re.compile(r"\b[a-z]+(?:\.[a-z_]+)+\b")
"""A dotted setting name inside a sentence."""


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=blocks)
def command(name: str | None) -> None:
    """List every setting of a run file, or those of NAME.

    NAME is a block (model, data, objective, train, evaluate, track), a method, an objective, or one setting, under its
    name here or in transformers, PEFT or LLaMA-Factory.
    """
    from ..recipe.blocks import BLOCKS, OUTER
    from ._tables import make_console, print_sentence, settings_table

    console = make_console()
    if name is None:
        for block in BLOCKS:
            _print_block(console, block)
    elif name.lower() == "method":
        print_sentence(
            console,
            shown(
                "weitiao settings METHOD lists the settings of a method; weitiao methods lists the methods"
            ),
        )
    elif (component := _component(name)) is not None:
        block, cls = component
        has_some = bool(cls.model_fields)
        console.print(settings_table(cls, block) if has_some else shown(f"{name} has no settings"))
    elif name.lower() in {*OUTER, "objective"}:
        _print_block(console, name.lower())
    else:
        _print_one(console, name)


def _print_block(console: Console, block: str) -> None:
    """Print a block's settings; of a block that depends on a component, those of each, but for the many methods."""
    from ..recipe.blocks import NAMED, OUTER
    from ._tables import settings_table

    if block in OUTER:
        console.print(settings_table(OUTER[block], block))
        console.print()
    elif block in NAMED and block != "method":
        _print_components(console, block)


def _print_components(console: Console, block: str) -> None:
    """Print the components that a block may name, the default first, each followed by its settings if it has any."""
    from ..recipe.blocks import NAMED
    from ._tables import Flowing, plain_table, settings_table

    registry, default = NAMED[block].registry, NAMED[block].default
    names = sorted(registry.names(), key=lambda name: name != default)
    table = plain_table(block, "default", "what it is")
    for name in names:
        table.add_row(
            f"{block}={name}", shown("yes") if name == default else "", Flowing(shown(registry.summary(name)))
        )
    console.print(table)
    for name in names:
        if registry.load(name).model_fields:
            console.print(f"\n{name}", style="cyan")
            console.print(settings_table(registry.load(name), block))
    console.print()


def _component(name: str) -> tuple[str, type[Settings]] | None:
    """Return the block and the class of the method or objective of this name; None if there is none."""
    from ..recipe.blocks import NAMED

    found = ((block, named.registry) for block, named in NAMED.items() if named.registry.spelling(name))
    return next(((block, registry.load(name)) for block, registry in found), None)


def _print_one(console: Console, name: str) -> None:
    """Print one setting, or what another tool's name becomes; raises SettingsError for an unknown name."""
    from ..recipe.blocks import NAMED
    from ..recipe.names.own import dotted_settings
    from ..recipe.names.table import entries, names_of_other_tools
    from ._tables import SETTING_COLUMNS, plain_table, print_sentence, setting_cells

    path, _, key = name.rpartition(".")
    path = path.lower()
    own = [row for block in NAMED if path in ("", block) for row in _named_rows(block, key)]
    read = entries(key) if path in ("", "method") and not own else ()
    meant = _meant(path, key)
    found = meant or [dotted for one in read for dotted in DOTTED.findall(one.becomes)]
    rows = [row for dotted in found for row in rows_of_setting(dotted)] or own
    rows = rows or [
        row for dotted in dotted_settings() for row in rows_of_setting(dotted) if row[0] == name.lower()
    ]
    if not read and not rows:
        raise SettingsError(
            unknown_name("setting", name, [*dotted_settings(), *names_of_other_tools()], "weitiao settings")
        )
    if path and meant and path not in {one.rpartition(".")[0] for one in meant}:
        print_sentence(console, shown(f"{name}, read as {' and '.join(meant)}"))
    for one in read:
        console.print(f"{name} ({one.source}): {shown(one.becomes)}", markup=False)
    if rows:
        table = plain_table(*SETTING_COLUMNS)
        for key, default, description in dict.fromkeys(rows):
            table.add_row(escape(key), *setting_cells(default, description))
        console.print(table)


def _meant(path: str, key: str) -> list[str]:
    """Return the dotted settings of blocks other than method and objective that a name means: the one at its path, else
    those called `key` in any block."""
    from ..recipe.blocks import FIXED, NAMED
    from ..recipe.names.own import homes, spelling

    if path in NAMED:
        return []
    own = spelling(key, FIXED[path].model_fields) if path in FIXED else None
    return [f"{path}.{own}"] if own else homes(key, FIXED)


def rows_of_setting(dotted: str) -> list[tuple[str, str, str]]:
    """Return (key, default, description) of a dotted setting; one of methods or objectives has a row per meaning."""
    from ..recipe.blocks import FIXED, NAMED
    from ..recipe.names.own import spelling
    from ._tables import setting_rows

    path, _, key = dotted.rpartition(".")
    if path in NAMED:
        return list(_named_rows(path, key))
    own = spelling(key, FIXED[path].model_fields) if path in FIXED else None
    return list(setting_rows(f"{path}.{own}", FIXED[path].model_fields[own])) if own else []


def _named_rows(block: str, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of a setting of methods or objectives, each with those that share it, the default one first."""
    from ..recipe.blocks import NAMED
    from ..recipe.names.own import spelling
    from ._tables import setting_rows

    registry, default_name = NAMED[block].registry, NAMED[block].default
    shared_by: dict[tuple[str, str, str], list[str]] = {}
    for component in sorted(registry.names(), key=lambda one: one != default_name):
        fields = registry.load(component).model_fields
        if own := spelling(name, fields):
            for row in setting_rows(f"{block}.{own}", fields[own]):
                shared_by.setdefault(row, []).append(component)
    for (key, default, text), components in shared_by.items():
        yield key, default, f"{text} ({', '.join(components)})"
