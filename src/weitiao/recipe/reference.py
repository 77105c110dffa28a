"""The model before training, which some objectives compare the trained model with."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..core.errors import ModelError, Problem
from .recipe import Recipe

if TYPE_CHECKING:
    from ..engine.forward import Forward
    from ..engine.two_passes import Reference
    from ..methods._base import Attached


def restores_start(recipe: Recipe, attached: Attached) -> bool:
    """Return whether the model with its method disabled is the model before training."""
    return recipe.model.adapter is None and not attached.saves_whole_model


def reference_for(recipe: Recipe, attached: Attached, forward: Forward) -> Reference | None:
    """Return the reference that the recipe's objective needs, None if it needs none; raises ModelError."""
    from ..engine.two_passes import MethodOff

    require_reference(recipe, attached)
    return MethodOff(forward, attached.disabled) if recipe.objective.needs_reference else None


def reference_of_start(recipe: Recipe, forward: Forward) -> Reference | None:
    """Return the reference while the model is the one before training: the model itself."""
    from ..engine.two_passes import MethodOff

    return MethodOff(forward, nullcontext) if recipe.objective.needs_reference else None


def require_reference(recipe: Recipe, attached: Attached) -> None:
    """Raise ModelError if the objective needs the model before training and disabling the method does not give it."""
    if not recipe.objective.needs_reference or restores_start(recipe, attached):
        return
    adapter = recipe.model.adapter
    if adapter is None:
        why, got = "the method changes the model's own weights", f"method: {recipe.method.name}"
        remedy = "method=lora, or another method that writes an adapter"
    else:
        why = "an adapter is trained further, and without it the model is not the one the run starts from"
        got, remedy = f"model.adapter: {adapter}", f"weitiao merge {adapter} MERGED, then model.name=MERGED"
    what = f"{recipe.objective.name} needs the model before training beside the trained one: {why}"
    raise ModelError(Problem(what, got, "a new adapter, which can be disabled", remedy))
