"""Input for the verdict: how training went, and the settings to try in the next run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..core.events import Event
from ..data.dataset import Prepared
from ..data.gate.gate import kept_rows
from ..data.gate.split import rows_to_spare
from ..data.gate.store import JoinedExamples, draws_of
from ..data.settings import DataSettings, ReplaySettings
from ..engine.loop import TrainingState
from ..engine.runtime.batches import StepPlan
from ..engine.settings import TrainSettings
from ..evaluation.curve import Point, held_out_points
from ..evaluation.verdict import LEAST_ROWS, TrainingSeen
from .recipe import Recipe


def training_seen(
    recipe: Recipe,
    data: Prepared,
    progress: TrainingState,
    losses: Sequence[Point],
    events: Sequence[Event],
    suggested_lr: float,
) -> TrainingSeen:
    """Return what the verdict is based on; `losses` are training losses by step, `events` those of the run.

    `suggested_lr` is the method's rate for the model's width.
    """
    some = max(1, len(losses) // 10)
    looks = held_out_points(events)
    plan = StepPlan.of(data.train, recipe.train)
    longer = _longer(recipe.train, plan, progress, looks, settled_by(events))
    stopped = progress.step < plan.total_steps and longer.startswith("train.early_stopping")
    return TrainingSeen(
        lr=recipe.lr,
        suggested_lr=suggested_lr,
        first_loss=_mean(losses[:some]),
        last_loss=_mean(losses[-some:]),
        best_is_last=_was_falling([loss for _, loss in looks]),
        longer=longer,
        stopped_by=longer.partition("=")[0] if stopped else "",
        more_held_out=_more_held_out(recipe.data, data),
        held_out_file=recipe.data.held_out_path is not None,
        more_replay=_more_replay(recipe.data.replay, data),
    )


def settled_by(events: Iterable[Event]) -> frozenset[str]:
    """Return the settings chosen automatically; in a resumed run these are the choices of its first process too."""
    return frozenset(
        row["setting"] for event in events if event["event"] == "choices" for row in event["rows"]
    )


def _longer(
    train: TrainSettings,
    plan: StepPlan,
    progress: TrainingState,
    looks: Sequence[Point],
    settled: frozenset[str],
) -> str:
    """Return the setting for a longer run: the one that ended this run, with a value that allows more steps."""
    epochs = train.epochs or 1.0
    if progress.step < plan.total_steps:  # early stopping ended it
        best, patience = progress.best_loss, train.early_stopping_patience
        gained = best is not None and any(loss < best for step, loss in looks if step)
        if train.early_stopping_min_delta and gained:
            return "train.early_stopping_min_delta=0"
        if isinstance(patience, int) and "train.early_stopping_patience" not in settled:
            return f"train.early_stopping_patience={2 * patience}"
        # All epochs of the new value are then run: explicit epochs switch automatic early stopping off.
        made = plan.epoch_of(max(0, progress.step - 1)) + 1
        return f"train.epochs={max(math.ceil(epochs), 2 * made)}"
    if train.steps is not None:
        return f"train.steps={2 * train.steps}"
    longer = 2 * epochs
    while _steps(plan, longer) <= plan.total_steps:  # doubling a small fraction may add no step
        longer *= 2
    return f"train.epochs={longer:g}"


def _steps(plan: StepPlan, epochs: float) -> int:
    return StepPlan(plan.examples, plan.batch_size, plan.seed, epochs).total_steps


def _was_falling(losses: Sequence[float]) -> bool:
    """Return whether the last evaluation has the lowest loss."""
    *others, last = losses or [math.nan]
    return bool(others) and all(last < loss or math.isnan(loss) for loss in others)


def _more_held_out(settings: DataSettings, data: Prepared) -> str:
    """Return the setting for enough held-out rows; empty if they have a file of their own or the data has too few."""
    if data.gate is None or settings.held_out_path is not None:
        return ""
    store = data.gate.store
    rows = rows_to_spare(store.arrays["row_keys"], kept_rows(store, rendered=True), LEAST_ROWS)
    return f"data.held_out={rows}" if rows > len(data.held_out) else ""


def _more_replay(replay: ReplaySettings | None, data: Prepared) -> str:
    """Return the setting for twice the general rows, or for some if there are none; empty if all are used."""
    if replay is None or not replay.share:
        return "data.replay=on"
    if isinstance(data.train, JoinedExamples):
        own, general = data.train.parts
        if sum(draws_of(general)) < replay.rows_beside(sum(draws_of(own))):
            return ""
    share = 2 * replay.share if replay.share >= 1 else min(0.5, 2 * replay.share)
    return f"data.replay={share:g}" if share > replay.share else ""


def _mean(losses: Sequence[Point]) -> float:
    return sum(loss for _, loss in losses) / len(losses) if losses else math.nan
