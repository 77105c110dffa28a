"""Shell completion: names of commands, methods, objectives, models and settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from ..core.settings import Settings

SHELLS = {
    "bash": ('eval "$(_WEITIAO_COMPLETE=bash_source weitiao)"', "~/.bashrc"),
    "zsh": ('eval "$(_WEITIAO_COMPLETE=zsh_source weitiao)"', "~/.zshrc"),
    "fish": ("_WEITIAO_COMPLETE=fish_source weitiao | source", "~/.config/fish/config.fish"),
}
"""The line that enables completion and the file it belongs in, by shell."""


def methods(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the methods that start with the typed text."""
    from ..methods import METHODS

    return _items(METHODS.names(), incomplete)


def objectives(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the objectives that start with the typed text."""
    from ..objectives import OBJECTIVES

    return _items(OBJECTIVES.names(), incomplete)


def models(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the model aliases that start with the typed text, else let the shell list files and folders."""
    from ..models.aliases import ALIASES

    return _items(ALIASES, incomplete) or [CompletionItem(incomplete, type="file")]


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell list files and folders."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell list folders, such as a run's."""
    return [CompletionItem(incomplete, type="dir")]


def run_file_or_setting(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the settings that start with the typed text, as `block.name=`; with no text, let the shell list files."""
    return _items(_settings(), incomplete) if incomplete else files(ctx, parameter, incomplete)


def blocks(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the blocks of a run file that start with the typed text."""
    return _items(settings_blocks(), incomplete)


def settings_blocks() -> dict[str, type[Settings]]:
    """Return the blocks of a run file by name, with their settings classes."""
    from ..recipe.blocks import BLOCKS

    return {name: block.cls for name, block in BLOCKS.items() if block.cls}


def _settings() -> Iterable[str]:
    for block, cls in settings_blocks().items():
        yield from (f"{block}.{name}=" for name in cls.model_fields)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
