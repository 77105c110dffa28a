"""Chooses the settings that a run file leaves open, from the model and the data, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .recipe import Recipe

if TYPE_CHECKING:
    from ..data.dataset import Prepared

LARGE_ROWS = 5000
"""From this many rows on, one epoch is chosen."""
MOST_EPOCHS = 6
"""Most epochs for small data; early stopping usually ends sooner."""
LEAST_STEPS = 30
"""Very small data gets more epochs until it makes this many steps."""
MOST_EPOCHS_OF_FEW = 30
UNWATCHED = 0.5
"""Fraction of those epochs that is used if no held-out loss can end the run."""
PATIENCE = 2
"""Evaluations without a gain after which training on small data stops."""
LOOKS_IN_ONE_EPOCH = 5


@dataclass(frozen=True)
class AutoSetting:
    """One setting chosen for the person."""

    setting: str
    """Its dotted name, such as train.lr."""
    value: float | int | str
    reason: str

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the event that reports it."""
        return asdict(self)


def settle(recipe: Recipe, data: Prepared, width: int) -> tuple[Recipe, list[AutoSetting]]:
    """Return the recipe with every open training setting chosen, and the choices in the order they are shown.

    `width` is the model's hidden size. A recipe without open settings is returned unchanged.
    """
    choices = [*_rate(recipe, width), *_length(recipe, data)]
    chosen = {choice.setting.removeprefix("train."): choice.value for choice in choices}
    if recipe.train.early_stopping_patience == "auto" and "early_stopping_patience" not in chosen:
        chosen["early_stopping_patience"] = "off"
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=chosen)}), choices


def _rate(recipe: Recipe, width: int) -> Iterator[AutoSetting]:
    """Choose the learning rate from the method and the model's width."""
    if recipe.train.lr is not None:
        return
    method = recipe.method
    if method.lr_falls_with_width:
        reason = f"{method.title}'s rate for a model of width {width}"
    else:
        reason = f"{method.title}'s rate, which suits models of every width"
    yield AutoSetting("train.lr", recipe.lr_for(width), reason)


def _length(recipe: Recipe, data: Prepared) -> Iterator[AutoSetting]:
    """Choose the number of epochs, and when to stop early."""
    from ..data.gate.store import draws_of
    from ..engine.runtime.batches import StepPlan

    train = recipe.train
    if train.epochs is not None or train.steps is not None:
        return
    rows = round(sum(draws_of(data.train)))
    if rows >= LARGE_ROWS:
        reason = f"{rows:,} rows are enough to see each once"
        yield AutoSetting("train.epochs", 1, reason)
        steps = StepPlan.of(data.train, train.model_copy(update={"epochs": 1})).total_steps
        if data.held_out and train.eval_every is None:
            every = math.ceil(steps / LOOKS_IN_ONE_EPOCH)
            reason = f"{LOOKS_IN_ONE_EPOCH} evaluations of the held-out loss"
            yield AutoSetting("train.eval_every", every, reason)
        return
    if not data.held_out or train.early_stopping_patience == "off":
        reason = f"{rows:,} rows, and no held-out loss to stop by"
        epochs = math.ceil(UNWATCHED * epochs_at_most(rows, train.batch_size))
        yield AutoSetting("train.epochs", epochs, reason)
        return
    epochs = epochs_at_most(rows, train.batch_size)
    reason = f"{rows:,} rows: seen up to {epochs} times, as long as the held-out loss falls"
    yield AutoSetting("train.epochs", epochs, reason)
    if train.early_stopping_patience == "auto":
        reason = f"stops after {PATIENCE} evaluations without a lower loss; the best weights are kept"
        yield AutoSetting("train.early_stopping_patience", PATIENCE, reason)


def epochs_at_most(rows: int, batch_size: int) -> int:
    """Return the most epochs for data of this many rows: the fewer rows, the more epochs."""
    by_size = min(MOST_EPOCHS, math.ceil(LARGE_ROWS / max(rows, 1)))
    by_steps = min(MOST_EPOCHS_OF_FEW, math.ceil(LEAST_STEPS * batch_size / max(rows, 1)))
    return max(by_size, by_steps) if rows < LARGE_ROWS else 1
