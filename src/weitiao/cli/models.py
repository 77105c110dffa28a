"""List the models that need no hub, those in the hub's cache, and which forms a model's name may have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._commands import Command

if TYPE_CHECKING:
    from rich.table import Table


@click.command(cls=Command)
def command() -> None:
    """List known models and the forms a model's name may have."""
    from ._tables import make_console

    console = make_console()
    console.print(_aliases())
    cached = list(_hub_cache())
    if cached:
        console.print()
        console.print(_cached_table(cached))
    console.print("\nA model's name may be")
    for form in (
        "an alias of the first table",
        "a folder with config.json and model.safetensors",
        "a .gguf file",
    ):
        console.print(f"  {form}")
    console.print("  a hub id such as owner/name, which is downloaded on first use")


def _aliases() -> Table:
    from ..models.aliases import ALIASES
    from ._tables import plain_table

    table = plain_table("alias", "here", "what it is")
    for alias in ALIASES.values():
        table.add_row(alias.name, _state(alias.name), alias.description)
    return table


def _state(name: str) -> str:
    """Say whether an alias can be used at once, after a first preparation, or what to type first."""
    from ..core.errors import ModelError
    from ..models.aliases import ALIASES
    from ..models.gguf import folder_of

    try:
        gguf = ALIASES[name].path
    except ModelError:
        return ALIASES[name].install
    return "ready" if folder_of(gguf).is_dir() else "installed; prepared on first use"


def _hub_cache() -> Iterator[tuple[str, int]]:
    """Yield (id, bytes) of the models in the hub's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE

    if not Path(HF_HUB_CACHE).is_dir():
        return
    for repo in sorted(scan_cache_dir().repos, key=lambda repo: repo.repo_id):
        if repo.repo_type == "model":
            yield repo.repo_id, repo.size_on_disk


def _cached_table(cached: list[tuple[str, int]]) -> Table:
    from ..core.units import readable_bytes
    from ._tables import plain_table

    table = plain_table("in the hub's cache", "size")
    for name, size_bytes in cached:
        table.add_row(name, readable_bytes(size_bytes))
    return table
