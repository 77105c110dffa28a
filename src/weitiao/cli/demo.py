"""See it work: teach a small chat model who it is, and compare its answers before and after."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import click

from ._commands import Command
from ._completion import models

ONLY_ENGLISH = (
    "自带的模型 smollm2-135m 只懂英文，所以这里用英文数据演示。要用中文数据，请指定一个懂中文的模型：\n"
    "  weitiao demo --lang zh --model Qwen/Qwen3-0.6B\n"
    "(The bundled model understands English only, so the sample is English; --model NAME trains the Chinese rows.)"
)


@click.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The run's folder, new or empty.  [runs/demo, runs/demo-2, ...]",
)
@click.option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    default="en",
    help="Language of the sample data; zh needs --model.  [en]",
)
@click.option(
    "--model",
    metavar="MODEL",
    shell_complete=models,
    help="Another model to teach, such as one that understands Chinese.  [smollm2-135m]",
)
@click.option("--name", help="What the model shall call itself.")
@click.option("--author", help="Who it shall say made it.")
def command(
    out: Path | None, lang: Literal["en", "zh"], model: str | None, name: str | None, author: str | None
) -> None:
    """Fine-tune the bundled model smollm2-135m with LoRA on sample data: about a minute on two cores.

    Shows the data, what is trained, the progress, the same questions answered before and after, and what to type next.
    """
    began = time.monotonic()
    from ..recipe.demo import BUNDLED_LANGUAGE, demo_recipe
    from ..recipe.train import train_recipe
    from ._console import run_console

    if model is None and lang != BUNDLED_LANGUAGE:
        click.echo(ONLY_ENGLISH)
    recipe = demo_recipe(out or _free_folder(Path("runs/demo")), lang, name, author, model)
    with run_console() as listener:
        train_recipe(recipe, [listener], began)


def _free_folder(wanted: Path) -> Path:
    """Return the folder, or the first of NAME-2, NAME-3, ... that does not exist."""
    number, folder = 1, wanted
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder
