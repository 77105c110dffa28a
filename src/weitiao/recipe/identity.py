"""What identifies a run: its settings and its data, each as a hash, and its base."""

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
    """Return the hashes that a checkpoint must match, as far as they are known before a model is loaded."""
    return {
        "settings": sha256(dumps(recipe.decides(), sort_keys=True).encode()).hexdigest(),
        "data": data.fingerprint,
    }


def require_base_of_run(recipe: Recipe, folder: RunFolder, base: Fingerprint) -> list[str]:
    """Raise ModelError if the adapter to continue from, or this run so far, was trained on another base.

    Returns notes on bases that are copies in another precision.
    """
    from ..models.fingerprint import require_same_base

    wanted = _bases_before(recipe, folder)
    return [n for what in wanted for n in require_same_base(wanted[what], base, what, recipe.model.name)]


def require_same_files(recipe: Recipe, folder: RunFolder) -> None:
    """Raise ModelError as `require_base_of_run` does, from the base's files, before its weights are loaded.

    If the files are not on this machine yet, the base is compared after it is loaded.
    """
    from ..models.fingerprint import fingerprint_of_files
    from ..models.load import load_weightless, weights_folder

    files = weights_folder(recipe.model) if _bases_before(recipe, folder) else None
    base = fingerprint_of_files(load_weightless(recipe.model).config, files) if files else None
    if base is not None:
        require_base_of_run(recipe, folder, base)


def _bases_before(recipe: Recipe, folder: RunFolder) -> dict[str, Fingerprint]:
    """Return the adapter and the run that a recipe continues, described in words, with the base of each, if known."""
    from ..models.fingerprint import read_fingerprint

    if recipe.model.allow_other_base:
        return {}
    adapter = Path(recipe.model.adapter) if recipe.model.adapter else None
    places = {f"the run {folder.root}": folder.root}
    if adapter:
        places[f"the adapter {adapter}"] = adapter
    found = {what: read_fingerprint(place) for what, place in places.items()}
    return {what: base for what, base in found.items() if base is not None}
