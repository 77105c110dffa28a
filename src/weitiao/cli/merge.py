"""Write a run's result as one plain model, compared with the trained one before it is called done."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.locale import shown
from ._commands import Command
from ._completion import folders
from ._options import BASE_HELP, FORCE_HELP, hub_option

if TYPE_CHECKING:
    from ..models.hubs.hub import HubName


@click.command(cls=Command)
@click.argument("run", shell_complete=folders)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--base", metavar="MODEL", help=BASE_HELP)
@hub_option
@click.option("--force", is_flag=True, help=FORCE_HELP)
def command(run: str, out: Path, base: str | None, hub: HubName | None, force: bool) -> None:
    """Merge what RUN (or an adapter's folder) trained into its base: a plain model in the new folder OUT."""
    from ..core.units import readable_bytes
    from ..evaluation.locate import locate
    from ..serving.merge import merge_run
    from ._tables import make_console, print_sentence
    from ._transfers import download_shown
    from ._waiting import waiting

    console = make_console()
    source = locate(run, base, force, hub)
    if source.adapter or source.trained or source.checkpoint:  # else merge_run raises
        download_shown(source.trained or source.base)
    with waiting(console) as stage:
        stage(f"merging {run} and comparing the merged model")
        merged = merge_run(run, out, base=base, allow_other_base=force, hub=hub)
    for note in merged.notes:
        print_sentence(console, shown(f"note: {note}"))
    found = merged.comparison
    compared = (
        f"compared at {found.positions} positions: largest difference of logits {found.max_difference:.2g}, "
        f"mean {found.mean_difference:.2g}, same next token at {found.same_choice:.1%}"
    )
    print_sentence(console, shown(compared))
    console.print(
        f"{merged.out} ({readable_bytes(merged.size_bytes)}, {merged.dtype})", markup=False, soft_wrap=True
    )
    console.print(shown(f"next: weitiao chat {shlex.quote(str(merged.out))}"), markup=False, soft_wrap=True)
