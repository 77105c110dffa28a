"""Makes sure that a model's weights are on this disk before they are loaded."""

from __future__ import annotations

from ...core.events import Listener
from ..resolve import resolve
from ..settings import ModelSettings
from .download import fetch, has_weights, hub_named, silent, weights_of


def fetch_model(settings: ModelSettings, listener: Listener = silent) -> None:
    """Download what this disk lacks of a hub's model, reporting size and progress to `listener`.

    Does nothing for a local folder, a file, or a model whose weights are here. Raises ResourceError if the disk is too
    small, before anything is downloaded, and ModelError if the hub cannot provide the model.
    """
    model = resolve(settings).source
    if model is None:
        return
    hub = hub_named(model.hub)
    folder = hub.cached(model)
    if folder is None or not has_weights(folder):
        files = hub.files(model)
        fetch(hub, model, {name: files[name] for name in weights_of(hub, model, files)}, listener)
