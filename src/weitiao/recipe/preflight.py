"""Everything that can be found wrong before a model is loaded, found at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import Problem, SettingsError, WeitiaoError, raise_all
from ..core.files import need_disk
from ..core.run_folder import RunFolder
from ..engine.optimizers import require_fast, require_installed
from ..engine.schedules import FOLLOW_HELD_OUT
from .recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..data.dataset import Prepared
    from ..data.reading import Checked

OPTIMIZER_COPIES = 3
"""A checkpoint holds the trained parameters and, at most, two moments of each, in fp32."""


@dataclass
class _Findings:
    """What the checks found; the first error's kind decides the exit code."""

    first: WeitiaoError | None = None
    problems: tuple[Problem, ...] = ()

    def run(self, check: Callable[[], None]) -> None:
        try:
            check()
        except WeitiaoError as error:
            self.first = self.first or error
            self.problems += error.problems

    def settle(self) -> None:
        if self.first is not None:
            raise type(self.first)(*self.problems)


@dataclass(frozen=True)
class Ready:
    """What a run needs besides the model, all of it checked."""

    data: Prepared
    tokenizer: PreTrainedTokenizerBase


def preflight(recipe: Recipe, new_folder: bool = True) -> Ready:
    """Check folder, data, model, method, optimizer, schedule, trackers and disk together, and tokenise the data.

    Nothing is written and no weights are loaded. Raises the WeitiaoError of the first kind found, carrying the
    problems of every check.
    """
    from ..data.dataset import check_data

    findings = _Findings()
    read: list[Checked] = []
    if new_folder:
        findings.run(RunFolder(recipe.out).require_new)
    findings.run(lambda: read.append(check_data(recipe.data)))
    findings.run(lambda: _check_model(recipe))
    findings.run(lambda: _check_schedule(recipe))
    findings.run(lambda: require_installed(recipe.train))
    findings.run(recipe.track.require_installed)
    findings.settle()
    return _tokenise(recipe, read[0])


def _tokenise(recipe: Recipe, read: Checked) -> Ready:
    """Make examples of the rows; raises DataError, ModelError for the tokenizer, SettingsError for what needs rows."""
    from ..data.dataset import prepare_data
    from ..models.load import load_generation_config, load_tokenizer

    tokenizer = load_tokenizer(recipe.model)
    stops = load_generation_config(recipe.model)
    data = prepare_data(read, recipe.data, tokenizer, recipe.train.seed, stops)
    require_held_out(recipe, len(data.held_out))
    return Ready(data, tokenizer)


def _check_model(recipe: Recipe) -> None:
    """Attach the method to a model without weights, and compare what it will write with the free disk."""
    from ..methods._base import count_parameters
    from ..models.load import load_config, load_weightless
    from ..models.precision import require_device

    require_device(recipe.model.device_map)
    model = load_weightless(recipe.model)
    recipe.method.check(model, load_config(recipe.model))
    adapter = recipe.model.adapter
    planned = recipe.method.continue_from(model, Path(adapter)) if adapter else recipe.method.plan(model)
    require_fast(recipe.train, planned.fast_parameters())
    trainable, everything = count_parameters(planned.model)
    checkpoint_bytes = 4 * trainable * OPTIMIZER_COPIES
    result_bytes = 4 * (everything if planned.saves_whole_model else trainable)
    kept = recipe.train.keep_checkpoints + 1 + recipe.train.keep_best
    need_disk(
        recipe.out.absolute(), kept * checkpoint_bytes + result_bytes, "this run's checkpoints and result"
    )


def _check_schedule(recipe: Recipe) -> None:
    """Build the schedule on a parameter of one number, so that unfit arguments are refused now."""
    import torch

    from ..engine.schedules import build_schedule

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    build_schedule(optimizer, recipe.train, steps=recipe.train.steps or 100)


def require_held_out(recipe: Recipe, held_out_rows: int) -> None:
    """Raise SettingsError for settings that go by the held-out loss where no row is held out."""
    train = recipe.train
    asked = {
        f"train.early_stopping_patience: {train.early_stopping_patience}": train.early_stopping_patience
        is not None,
        f"train.scheduler: {train.scheduler}": train.scheduler in FOLLOW_HELD_OUT,
    }
    raise_all(
        SettingsError,
        [
            Problem(
                "this goes by the held-out loss, and no row is held out",
                got,
                "held-out rows",
                "data.held_out=10",
            )
            for got, is_asked in asked.items()
            if is_asked and held_out_rows == 0
        ],
    )
