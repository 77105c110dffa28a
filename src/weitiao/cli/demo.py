"""See it work: teach a small chat model who it is, and compare its answers before and after."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ..core.locale import LANGUAGES, Language, language, shown
from ._commands import Command
from ._completion import models

ONLY_ENGLISH = (
    "The bundled model smollm2-135m understands only English, so the sample data is English. For Chinese sample data, "
    "name a model that understands Chinese: weitiao demo --lang zh --model Qwen/Qwen3-0.6B"
)


@click.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The run's folder, new or empty.  [runs/demo, runs/demo-2, ...]",
)
@click.option(
    "--lang",
    type=click.Choice(LANGUAGES),
    help="Language of what is shown, and of the sample data with --model.  [WEITIAO_LANG, else the system's]",
)
@click.option(
    "--model",
    metavar="MODEL",
    shell_complete=models,
    help="Another model to teach, such as one that understands Chinese.  [smollm2-135m]",
)
@click.option("--name", help="The name the model is taught.")
@click.option("--author", help="The author the model is taught.")
def command(
    out: Path | None, lang: Language | None, model: str | None, name: str | None, author: str | None
) -> None:
    """Fine-tune the bundled model smollm2-135m with LoRA on sample data: about a minute on two cores.

    Shows the data, what is trained, the progress, the same questions answered before and after, and what to type next.
    """
    began = time.monotonic()
    from ..recipe.demo import BUNDLED_LANGUAGE, demo_recipe
    from ..recipe.train import train_recipe
    from ._console import run_console

    if model is None and lang not in (None, BUNDLED_LANGUAGE):
        click.echo(shown(ONLY_ENGLISH))
    sample = lang or (language() if model else BUNDLED_LANGUAGE)
    recipe = demo_recipe(out or _free_folder(Path("runs/demo")), sample, name, author, model)
    with run_console() as listener:
        train_recipe(recipe, [listener], began)


def _free_folder(wanted: Path) -> Path:
    """Return the folder, or the first of NAME-2, NAME-3, ... that does not exist."""
    number, folder = 1, wanted
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder
