"""What makes a run this run and no other: its settings and its data, each as a hash."""

from __future__ import annotations

from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from .recipe import Recipe

if TYPE_CHECKING:
    from ..core.run_folder import RunFolder
    from ..data.dataset import Prepared
    from ..models.fingerprint import Fingerprint


def settings_and_data(recipe: Recipe, data: Prepared) -> dict[str, str]:
    """Return the hashes a checkpoint must agree in, as far as they are known before a model is loaded."""
    return {
        "settings": sha256(dumps(recipe.decides(), sort_keys=True).encode()).hexdigest(),
        "data": data.fingerprint,
    }


def require_same_base(recipe: Recipe, folder: RunFolder, base: Fingerprint) -> None:
    """Raise ModelError where the adapter to continue from, or this run so far, was trained on another base."""
    from ..models.fingerprint import read_fingerprint, require_same_base

    if recipe.model.allow_other_base:
        return
    if recipe.model.adapter:
        adapter = Path(recipe.model.adapter)
        require_same_base(read_fingerprint(adapter), base, f"the adapter {adapter}", recipe.model.name)
    require_same_base(read_fingerprint(folder.root), base, f"the run {folder.root}", recipe.model.name)
