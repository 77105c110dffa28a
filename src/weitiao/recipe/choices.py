"""Chooses the settings that a run file leaves open, from the model and the data, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.said import Said
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
    reason: Said

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the event that reports it."""
        return {
            "setting": self.setting,
            "value": self.value,
            "reason": self.reason.en,
            "reason_zh": self.reason.zh,
        }


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
        reason = Said(
            f"{method.title}'s rate for a model of width {width}",
            f"{method.title} 在宽度为 {width} 的模型上的学习率",
        )
    else:
        reason = Said(
            f"{method.title}'s rate, which suits models of every width",
            f"{method.title} 的学习率，与模型宽度无关",
        )
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
        reason = Said(f"{rows:,} rows are enough to see each once", f"共 {rows:,} 条数据，每条看一遍就够")
        yield AutoSetting("train.epochs", 1, reason)
        steps = StepPlan.of(data.train, train.model_copy(update={"epochs": 1})).total_steps
        if data.held_out and train.eval_every is None:
            every = math.ceil(steps / LOOKS_IN_ONE_EPOCH)
            reason = Said(
                f"{LOOKS_IN_ONE_EPOCH} looks at the held-out loss", f"评估 {LOOKS_IN_ONE_EPOCH} 次留出损失"
            )
            yield AutoSetting("train.eval_every", every, reason)
        return
    if not data.held_out or train.early_stopping_patience == "off":
        reason = Said(
            f"{rows:,} rows, and nothing tells when to stop", f"共 {rows:,} 条数据，没有判断何时停止的依据"
        )
        yield AutoSetting(
            "train.epochs", math.ceil(UNWATCHED * epochs_at_most(rows, train.batch_size)), reason
        )
        return
    epochs = epochs_at_most(rows, train.batch_size)
    reason = Said(
        f"{rows:,} rows: seen up to {epochs} times, as long as the held-out loss falls",
        f"共 {rows:,} 条数据：最多看 {epochs} 遍，留出损失不再下降就停",
    )
    yield AutoSetting("train.epochs", epochs, reason)
    if train.early_stopping_patience == "auto":
        reason = Said(
            f"stops after {PATIENCE} looks without a gain; the best weights are kept",
            f"连续 {PATIENCE} 次评估没有进步就停，保留最好的权重",
        )
        yield AutoSetting("train.early_stopping_patience", PATIENCE, reason)


def epochs_at_most(rows: int, batch_size: int) -> int:
    """Return the most epochs for data of this many rows: the fewer rows, the more epochs."""
    by_size = min(MOST_EPOCHS, math.ceil(LARGE_ROWS / max(rows, 1)))
    by_steps = min(MOST_EPOCHS_OF_FEW, math.ceil(LEAST_STEPS * batch_size / max(rows, 1)))
    return max(by_size, by_steps) if rows < LARGE_ROWS else 1
