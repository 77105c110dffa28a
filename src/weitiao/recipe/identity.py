"""What makes a run this run and no other: its settings and its data, each as a hash."""

from __future__ import annotations

from hashlib import sha256
from json import dumps
from typing import TYPE_CHECKING

from .recipe import Recipe

if TYPE_CHECKING:
    from ..data.dataset import Prepared


def settings_and_data(recipe: Recipe, data: Prepared) -> dict[str, str]:
    """Return the hashes a checkpoint must agree in, as far as they are known before a model is loaded."""
    return {
        "settings": sha256(dumps(recipe.decides(), sort_keys=True).encode()).hexdigest(),
        "data": data.fingerprint,
    }
