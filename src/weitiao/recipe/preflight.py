"""Everything that can be found wrong before a model is loaded, found at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import Problem, WeitiaoError
from ..core.files import need_disk
from ..core.run_folder import RunFolder
from .recipe import Recipe

if TYPE_CHECKING:
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


def preflight(recipe: Recipe, new_folder: bool = True) -> Checked:
    """Check folder, data files, model, method, schedule, trackers and disk together; return the rows that were read.

    Raises the WeitiaoError of the first kind found, carrying the problems of every check.
    """
    from ..data.dataset import check_data

    findings = _Findings()
    read: list[Checked] = []
    if new_folder:
        findings.run(RunFolder(recipe.out).require_new)
    findings.run(lambda: read.append(check_data(recipe.data)))
    findings.run(lambda: _check_model(recipe))
    findings.run(lambda: _check_schedule(recipe))
    findings.run(recipe.track.require_installed)
    findings.settle()
    return read[0]


def _check_model(recipe: Recipe) -> None:
    """Attach the method to a model without weights, and compare what it will write with the free disk."""
    from ..methods._base import count_parameters
    from ..models.load import load_config, load_weightless

    model = load_weightless(recipe.model)
    recipe.method.check(model, load_config(recipe.model))
    planned = recipe.method.plan(model)
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
