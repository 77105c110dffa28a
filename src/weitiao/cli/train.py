"""Fine-tune a model: from a run file, from flags, or both; every other setting is a word key=value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..core.errors import Problem, SettingsError
from ..data.settings import SourceSettings
from ..models.settings import ModelSettings
from . import _completion
from ._commands import Command
from ._options import FORCE_HELP, given, help_of

EPILOG = """
\b
Examples:
  weitiao train --model smollm2-135m --data my.json --method lora --out runs/mine
  weitiao train run.yaml method.r=16 train.lr=2e-4
  weitiao train --resume runs/mine

`weitiao settings` lists every setting, `weitiao methods NAME` those of a method.
"""


class TrainCommand(Command):
    """A command that also takes settings, and so knows what an option such as --lr was meant to be."""

    def unknown_option(self, ctx: click.Context, name: str) -> Problem:
        """Describe an option that does not exist; the setting of that name is what to try."""
        from ..recipe.recipe import homes_of

        problem = super().unknown_option(ctx, name)
        key = name.lstrip("-").replace("-", "_")
        homes = [key] if "." in key else [f"{block}.{key}" for block in homes_of(key, {"method": "lora"})]
        remedy = " or ".join(f"{home}=VALUE" for home in homes)
        return Problem(problem.what, problem.got, problem.expected, remedy) if remedy else problem


@click.command(cls=TrainCommand, epilog=EPILOG)
@click.argument(
    "words", nargs=-1, metavar="[RUN.yaml] [KEY=VALUE]...", shell_complete=_completion.run_file_or_setting
)
@click.option(
    "--model", metavar="MODEL", shell_complete=_completion.models, help=help_of(ModelSettings, "name")
)
@click.option(
    "--data",
    metavar="DATA",
    multiple=True,
    shell_complete=_completion.files,
    help=help_of(SourceSettings, "path") + " May be repeated.",
)
@click.option(
    "--method",
    metavar="METHOD",
    shell_complete=_completion.methods,
    help="What is trained: a name that `weitiao methods` lists.",
)
@click.option("--out", metavar="RUN", help="The run's folder, new or empty.")
@click.option(
    "--resume",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Go on with an interrupted run of this folder.",
)
@click.option("--force", is_flag=True, help=FORCE_HELP)
@click.option("--dry-run", is_flag=True, help="Check everything, load no weights, print the whole run file.")
def command(
    words: tuple[str, ...],
    resume: Path | None,
    force: bool,
    dry_run: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Fine-tune a model on your data.

    The settings come from RUN.yaml; flags replace what it says, and words such as train.lr=2e-4 replace both.
    """
    words = (*words, "model.allow_other_base=true") if force else words
    if resume is not None:
        _resume(resume, words, {**given(flags), **({"dry_run": True} if dry_run else {})})
        return
    run_file = Path(words[0]) if words and "=" not in words[0] else None
    overrides = words[1:] if run_file else words
    if dry_run:
        _check(run_file, flags, overrides)
    else:
        _train(run_file, flags, overrides)


def _blocks(flags: dict[str, Any]) -> dict[str, Any]:
    """Turn the flags typed into blocks of a run file."""
    typed = given(flags)
    blocks: dict[str, Any] = {key: {"name": typed[key]} for key in ("model", "method") if key in typed}
    if "data" in typed:
        blocks["data"] = {"sources": list(typed["data"])}
    if "out" in typed:
        blocks["out"] = typed["out"]
    return blocks


def _train(run_file: Path | None, flags: dict[str, Any], overrides: tuple[str, ...]) -> None:
    from ..recipe.recipe import read_recipe
    from ._console import run_console

    recipe = read_recipe(run_file, _blocks(flags), list(overrides))
    from ..recipe.train import train

    with run_console() as listener:
        train(recipe, [listener])


def _check(run_file: Path | None, flags: dict[str, Any], overrides: tuple[str, ...]) -> None:
    from ..models.resolve import convert_first
    from ..recipe.preflight import preflight
    from ..recipe.recipe import read_recipe
    from ._tables import make_console
    from ._waiting import waiting

    recipe = read_recipe(run_file, _blocks(flags), list(overrides))
    with waiting(make_console(stderr=True)) as stage:
        convert_first(recipe.model.name, stage)
        stage("checking the settings, reading and tokenising the data")
        ready = preflight(recipe)
    click.echo("\n".join(ready.data.summary.lines()), err=True)
    for part in ready.left_out:
        click.echo(f"note: {part.en}", err=True)
    click.echo(recipe.as_yaml(), nl=False)


def _resume(run: Path, words: tuple[str, ...], flags: dict[str, Any]) -> None:
    """Go on with a run; raises SettingsError for flags, which its own run file has already."""
    if flags:
        typed = ", ".join(f"--{name.replace('_', '-')}" for name in flags)
        raise SettingsError(
            Problem(
                "--resume goes on with the settings of the run's own run.yaml",
                f"{typed} beside --resume",
                "no other flag",
                f"weitiao train --resume {run}",
            )
        )
    from ..recipe.train import resume
    from ._console import run_console

    with run_console() as listener:
        resume(run, words, [listener])
