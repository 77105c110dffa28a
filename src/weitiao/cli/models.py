"""List models by name, show what one is made of and what fits it, or convert pickled weights to safetensors."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.errors import ModelError, Problem, RunFolderError
from ..core.locale import shown
from ._commands import Command
from ._help import HelpContext
from ._options import hub_option

if TYPE_CHECKING:
    from ..models.hubs.hub import HubName

TRUSTS = "model.trust_remote_code=true"
"""The setting behind the flag --trust-remote-code."""
EPILOG = """
\b
Examples:
  weitiao models                        every model that has a short name
  weitiao models qwen                   those with `qwen` in their names
  weitiao models smollm2-135m           the parts of one model, and the methods that fit it
  weitiao models path/to/folder         the same for a folder or a .gguf file
  weitiao models convert path/to/folder
"""


class ModelsGroup(click.Group):
    """A group that shows a model if the first word is not a subcommand."""

    context_class = HelpContext

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `show` before the words unless a subcommand comes first."""
        own = {*self.commands, *ctx.help_option_names}
        first = next((word for word in args if word in own or not word.startswith("-")), None)
        return super().parse_args(ctx, args if first in own else ["show", *args])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options of `show`, which is never typed, and the subcommands."""
        with formatter.section("Options"):
            options = [p for p in self.commands["show"].get_params(ctx) if isinstance(p, click.Option)]
            records = [option.get_help_record(ctx) for option in options]
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands that have to be typed."""
        return [name for name in super().list_commands(ctx) if name != "show"]


@click.group(cls=ModelsGroup, epilog=EPILOG, subcommand_metavar="[NAME | WORD]", invoke_without_command=True)
def command() -> None:
    """List models, or show the one called NAME: an alias, a hub id, a folder or a .gguf file.

    A WORD that is not a model's name lists the models whose names contain it.
    """


@command.command(cls=Command, hidden=True)
@click.argument("name", required=False, metavar="[NAME | WORD]")
@hub_option
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
def show(name: str | None, hub: HubName | None, trust_remote_code: bool) -> None:
    """List models, or show one of them."""
    from ._models_list import found_by, list_models

    if name is None:
        list_models()
    elif chosen := found_by(name):
        list_models(chosen, name)
    else:
        from ._models_show import show_model

        _require_model(name)
        try:
            show_model(name, hub, trust_remote_code)
        except ModelError as error:
            raise ModelError(*map(_as_typed_here, error.problems)) from error


def _require_model(name: str) -> None:
    """Raise RunFolderError for the folder of a run or an adapter, naming the model it was trained on."""
    from ..evaluation.locate import locate

    folder = Path(name).expanduser()
    if not folder.is_dir() or (folder / "config.json").is_file():
        return
    source = locate(name)
    if source.base.name != name:
        what = "this folder holds an adapter or a run, not a model"
        remedy = f"weitiao models {shlex.quote(source.base.name)}"
        raise RunFolderError(Problem(what, name, "a model", remedy))


def _as_typed_here(problem: Problem) -> Problem:
    """Return a problem whose remedy names this command's flag instead of the setting of a run file."""
    return replace(problem, remedy=problem.remedy.replace(TRUSTS, "--trust-remote-code"))


@command.command(
    "convert", cls=Command, short_help="Convert pickled weights to safetensors, in a new folder."
)
@click.argument("model", metavar="FOLDER")
@click.option("--out", type=click.Path(path_type=Path), help="The new folder.  [FOLDER-safetensors]")
@hub_option
def convert_command(model: str, out: Path | None, hub: HubName | None) -> None:
    """Convert FOLDER's pickled weights (pytorch_model.bin and the like) to safetensors, in a new folder.

    FOLDER may also be a model of a hub, which is downloaded first. The pickles are read in a process of their own,
    which accepts nothing but tensors.
    """
    from ..core.settings import parse_settings
    from ..core.units import readable_bytes
    from ..models.settings import ModelSettings
    from ..models.weights.convert import convert, converted_folder, pickled_folder
    from ._tables import make_console, print_sentence
    from ._transfers import transfer_console

    console = make_console()
    with transfer_console(console) as listener:
        folder = pickled_folder(parse_settings(ModelSettings, {"name": model, "hub": hub}), listener)
        target = out or converted_folder(Path(model))
        console.print(shown(f"converting {folder} into {target}"), style="dim", markup=False, soft_wrap=True)
        done = convert(folder, target, listener)
    for note in done.notes:
        print_sentence(console, shown(f"note: {note}"))
    size = shown(f"{done.tensors} tensors, {readable_bytes(done.size_bytes)}")
    console.print(f"{done.out} ({size})", markup=False, soft_wrap=True)
    quoted = shlex.quote(str(done.out))
    console.print(
        shown(f"next: weitiao train --model {quoted} --data DATA --out RUN"), markup=False, soft_wrap=True
    )
