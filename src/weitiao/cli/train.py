"""Fine-tune a model: from a run file, from flags, or both; every other setting is a word key=value."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.errors import Problem, SettingsError, WeitiaoError, nearest
from ..core.locale import language, shown
from ..core.settings import parse_overrides
from ..data.settings import SourceSettings
from ..models.settings import ModelSettings
from . import _completion
from ._commands import Command
from ._options import FORCE_HELP, F, given, help_of, hub_option
from ._words import flags_as_words, join_assignments, sort_words

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe

EPILOG = """
\b
Examples:
  weitiao train --model smollm2-135m --data my.json --method lora --out runs/mine
  weitiao train run.yaml method.r=16 train.lr=2e-4
  weitiao train --resume runs/mine

`weitiao settings` lists every setting, `weitiao methods NAME` those of a method.
"""


OWN_FLAGS = {
    "epochs": "Passes over the data (train.epochs).",
    "steps": "Number of optimizer steps, instead of epochs (train.steps).",
    "lr": "Peak learning rate (train.lr).",
    "batch_size": "Examples per step (train.batch_size).",
}
"""Training settings with a flag of their own, under the name most people type, and their help texts."""


class TrainCommand(Command):
    """A command that takes any setting as a flag, under its name here or in another tool: `--learning_rate 1e-4`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn flags that are settings into KEY=VALUE words, and parse the rest."""
        return super().parse_args(ctx, flags_as_words(args, self.flags(ctx)))

    def unknown_option(self, ctx: click.Context, name: str) -> Problem:
        """Describe an option that does not exist, with the nearest options and settings."""
        from ..recipe.names.own import every_setting_name
        from ..recipe.names.table import names_of_other_tools

        problem = super().unknown_option(ctx, name)
        key = name.lstrip("-").replace("-", "_")
        near = [
            f"--{one.replace('_', '-')}"
            for one in nearest(key, [*every_setting_name(), *names_of_other_tools()])
        ]
        own = problem.remedy if problem.remedy.startswith("--") else ""
        remedy = " or ".join(dict.fromkeys([*filter(None, own.split(" or ")), *near][:3])) or problem.remedy
        return Problem(problem.what, problem.got, problem.expected, remedy)


def own_flags(command: F) -> F:
    """Add the flags of `OWN_FLAGS` to a command."""
    for name in reversed(OWN_FLAGS):
        flag = f"--{name.replace('_', '-')}"
        click.option(flag, name, metavar="N", help=OWN_FLAGS[name])(command)
    return command


@click.command(cls=TrainCommand, epilog=EPILOG)
@click.argument(
    "words",
    nargs=-1,
    metavar="[RUN.yaml] [DATA]... [KEY=VALUE]...",
    shell_complete=_completion.run_file_or_setting,
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
    help="The training method: a name that `weitiao methods` lists.",
)
@click.option(
    "--objective",
    metavar="OBJECTIVE",
    shell_complete=_completion.objectives,
    help="What is minimised: a name that `weitiao settings objective` lists.",
)
@own_flags
@click.option("--out", metavar="RUN", help="The run's folder, new or empty.")
@click.option(
    "--resume",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Continue the interrupted run in this folder.",
)
@hub_option
@click.option("--force", is_flag=True, help=FORCE_HELP)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check everything without weights, and print the complete run file.",
)
def command(
    words: tuple[str, ...],
    resume: Path | None,
    hub: str | None,
    force: bool,
    dry_run: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Fine-tune a model on your data.

    The settings come from RUN.yaml; flags override them, and words such as train.lr=2e-4 override both.
    Every setting is also a flag, under its name here or in transformers, PEFT and LLaMA-Factory
    (--learning_rate 2e-4, --lora_rank 16); run files of those tools can be used unchanged.
    """
    began = time.monotonic()
    words = (*words, "model.allow_other_base=true") if force else words
    words = (*words, f"model.hub={hub}") if hub else words
    if resume is not None:
        _resume(resume, words, {**given(flags), **({"dry_run": True} if dry_run else {})}, began)
        return
    typed = sort_words(words)
    blocks = _blocks(flags, typed.data)
    if dry_run:
        _check(typed.run_file, blocks, typed.settings)
    else:
        _train(typed.run_file, blocks, typed.settings, began)


def _blocks(flags: dict[str, Any], data: tuple[str, ...]) -> dict[str, Any]:
    """Turn the typed flags, and data typed without a flag, into blocks of a run file."""
    typed = given(flags)
    blocks: dict[str, Any] = {
        key: {"name": typed[key]} for key in ("model", "method", "objective") if key in typed
    }
    if sources := [*data, *typed.get("data", ())]:
        blocks["data"] = {"sources": sources}
    if "out" in typed:
        blocks["out"] = typed["out"]
    words = [f"train.{name}={typed[name]}" for name in OWN_FLAGS if name in typed]
    return blocks | parse_overrides(words)


def _train(run_file: Path | None, blocks: dict[str, Any], overrides: tuple[str, ...], began: float) -> None:
    from ._console import run_console

    with run_console() as listener:
        listener({"event": "stage", "text": "reading the settings"})
        from ..recipe.recipe import read_recipe

        recipe = read_recipe(run_file, blocks, list(overrides))
        _leave_out_unused(recipe)
        from ..recipe.train import train_recipe

        train_recipe(recipe, [listener], began)


def _leave_out_unused(recipe: Recipe) -> None:
    """Import no package that the run does not use, if this process ends with the command."""
    from . import SIGNALS

    if SIGNALS.installed:
        from ._quick_start import leave_out_unused

        leave_out_unused(recipe)


def _leave_out_unused_by(run: Path) -> None:
    """Do so for a run that is resumed; a run file that cannot be read is reported later."""
    from ..core.run_folder import RunFolder
    from ..recipe.recipe import read_recipe

    with suppress(WeitiaoError):
        _leave_out_unused(read_recipe(RunFolder(run).run_yaml, {"out": str(run)}))


def _check(run_file: Path | None, blocks: dict[str, Any], overrides: tuple[str, ...]) -> None:
    from ..models.resolve import convert_first
    from ..recipe.preflight import preflight
    from ..recipe.recipe import read_recipe
    from ._tables import make_console
    from ._waiting import waiting

    recipe = read_recipe(run_file, blocks, list(overrides))
    for line in recipe.said:
        click.echo(shown(line), err=True)
    with waiting(make_console(stderr=True)) as stage:
        convert_first(recipe.model.name, stage)
        stage("checking the settings, reading and tokenising the data")
        ready = preflight(recipe)
    click.echo("\n".join(ready.data.summary.lines(language())), err=True)
    for part in ready.left_out:
        click.echo(shown(f"note: {part}"), err=True)
    for choice in ready.choices:
        click.echo(f"{choice.setting}={choice.value}: {shown(choice.reason)}", err=True)
    click.echo(ready.recipe.as_yaml(), nl=False)


def _resume(run: Path, words: tuple[str, ...], flags: dict[str, Any], began: float) -> None:
    """Resume a run; raises SettingsError for flags, because the run's own run file has those settings."""
    if flags:
        typed = ", ".join(f"--{name.replace('_', '-')}" for name in flags)
        raise SettingsError(
            Problem(
                "--resume uses the settings in the run's run.yaml",
                f"{typed} beside --resume",
                "no other flag",
                f"weitiao train --resume {run}",
            )
        )
    from ._console import run_console

    with run_console() as listener:
        listener({"event": "stage", "text": "reading the settings"})
        _leave_out_unused_by(run)
        from ..recipe.train import resume_run

        resume_run(run, list(join_assignments(words)), [listener], began)
