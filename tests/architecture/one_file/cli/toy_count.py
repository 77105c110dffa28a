"""Count the lines of a file."""

from __future__ import annotations

from pathlib import Path

import click

from ._commands import Command


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--twice", is_flag=True, help="Count every line twice.")
def command(file: Path, twice: bool) -> None:
    """Print how many lines FILE has."""
    lines = len(file.read_text(encoding="utf-8").splitlines())
    click.echo(f"{lines * (1 + twice)} lines")
