"""The settings a run trains with in the end, read from its built parts, as facts to show."""

from __future__ import annotations

from collections.abc import Collection

from ..data.dataset import Prepared
from ..engine.runtime.batches import StepPlan
from ..evaluation.chosen import Chosen
from ..methods._base import Attached
from ..methods._placement import trained_modules
from .recipe import Recipe


def chosen_for(
    recipe: Recipe, attached: Attached, modules: Collection[str], data: Prepared, plan: StepPlan
) -> Chosen:
    """Return the facts of a run; `modules` are the paths of the base's modules before the method was attached."""
    return Chosen(
        method=recipe.method.title,
        targets=trained_modules(attached.trainable(), modules),
        lr=recipe.lr,
        scheduler=recipe.train.scheduler,
        warmup_steps=recipe.train.warmup(plan.total_steps),
        epochs=plan.seen / len(plan.examples),
        steps=plan.total_steps,
        batch_size=plan.batch_size,
        examples=len(plan.examples),
        held_out=len(data.held_out),
    )
