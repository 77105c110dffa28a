"""`weitiao.train(...)`: a run from Python, with settings objects or plain keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.events import Listener
from ..core.settings import Settings, read_yaml
from ..data.settings import DataSettings
from ..data.sources.python_rows import is_split
from ..engine.runtime.tracking import TrackSettings
from ..engine.settings import TrainSettings
from ..evaluation.answers import EvaluateSettings
from ..methods._base import Method
from ..models.quiet import libraries_quiet
from ..models.settings import ModelSettings
from ..objectives._base import Objective
from .blocks import BLOCKS
from .recipe import Recipe, parse_recipe
from .run import Run
from .told import telling
from .train import resume_run as resume_run
from .train import train_recipe as train_recipe

Block = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


def train(
    recipe: Recipe | str | Path | None = None,
    *,
    model: ModelSettings | Block | str | None = None,
    data: DataSettings | Block | str | Path | Sequence[str] | Rows | None = None,
    method: Method | Block | str | None = None,
    objective: Objective | Block | str | None = None,
    train: TrainSettings | Block | None = None,
    evaluate: EvaluateSettings | Block | None = None,
    track: TrackSettings | Block | None = None,
    out: str | Path | None = None,
    listeners: Sequence[Listener] = (),
    quiet: bool = False,
    **settings: Any,  # noqa: ANN401  (any setting of any block, by its own name)
) -> Run:
    """Fine-tune and return the run; blocks are objects, mappings or names, and override the run file `recipe`.

    Progress is shown in a notebook, on a terminal or in a pipe; `quiet` shows nothing.
    A plain keyword goes to the one block that has a setting of that name: `r=16, lr=2e-4, steps=100`. Names and
    configs of transformers, PEFT and LLaMA-Factory are read: `learning_rate=2e-4`, `train=TrainingArguments(...)`,
    `method=LoraConfig(...)`. Raises SettingsError for keywords that no block or more than one has, and what
    `weitiao.recipe.train.train_recipe` raises.
    """
    given = {
        "model": model,
        "data": data,
        "method": method,
        "objective": objective,
        "train": train,
        "evaluate": evaluate,
        "track": track,
        "out": out,
    }
    blocks = {name: _as_block(name, value) for name, value in given.items() if value is not None}
    parsed = parse_recipe(_plain(recipe), blocks, settings)
    with telling(quiet) as told, libraries_quiet():
        return train_recipe(parsed, [*told, *listeners])


def resume(
    root: str | Path,
    words: Sequence[str] = (),
    listeners: Sequence[Listener] = (),
    *,
    quiet: bool = False,
) -> Run:
    """Resume an interrupted run, shown as by `train`; raises what `weitiao.recipe.train.resume_run` raises.

    `words` are settings to change, such as train.pack_tokens=512.
    """
    with telling(quiet) as told, libraries_quiet():
        return resume_run(root, words, [*told, *listeners])


def _plain(recipe: Recipe | str | Path | None) -> dict[str, Any]:
    """Return a recipe or a run file as plain values."""
    if isinstance(recipe, Recipe):
        return recipe.as_dict()
    return read_yaml(Path(recipe)) if recipe is not None else {}


def _as_block(name: str, value: Any) -> Any:  # noqa: ANN401
    """Return a block as plain values, so that keywords can override it."""
    if isinstance(value, Method | Objective):
        return {"name": value.name, **value.model_dump()}
    if isinstance(value, Settings):
        return value.model_dump()
    if BLOCKS[name].bare == "name" and isinstance(value, str):
        return {"name": value}
    if name == "data" and (not isinstance(value, Mapping) or is_split(value)):
        return {"sources": [{"rows": value}] if is_split(value) else value}
    return value
