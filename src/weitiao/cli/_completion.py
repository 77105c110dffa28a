"""What a shell offers when Tab is pressed: names of commands, methods, models and settings."""

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
"""What to write into which file, by shell."""


def methods(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the methods that begin with what is typed."""
    from ..methods import METHODS

    return _items(METHODS.names(), incomplete)


def models(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the aliases of models that begin with what is typed, else files and folders."""
    from ..models.aliases import ALIASES

    return _items(ALIASES, incomplete) or [CompletionItem(incomplete, type="file")]


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return that a file or folder is asked for: the shell lists them."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return that a folder is asked for, such as a run's."""
    return [CompletionItem(incomplete, type="dir")]


def run_file_or_setting(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the settings, as they are typed, that begin with what is typed, else files."""
    return _items(_settings(), incomplete) if incomplete else files(ctx, parameter, incomplete)


def blocks(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the blocks of a run file that begin with what is typed."""
    return _items(settings_blocks(), incomplete)


def settings_blocks() -> dict[str, type[Settings]]:
    """Return the blocks of a run file whose settings are always the same."""
    from ..core.settings import Settings
    from ..recipe.recipe import Recipe

    return {
        name: field.annotation
        for name, field in Recipe.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    }


def _settings() -> Iterable[str]:
    for block, cls in settings_blocks().items():
        yield from (f"{block}.{name}=" for name in cls.model_fields)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
