"""Having a model's weights on this disk before they are loaded."""

from __future__ import annotations

from ...core.events import Listener
from ..resolve import resolve
from ..settings import ModelSettings
from .download import fetch, has_weights, hub_named, silent, weights_of


def fetch_model(settings: ModelSettings, listener: Listener = silent) -> None:
    """Download what a hub's model still lacks on this disk, telling `listener` how much it is and how far.

    Nothing is done for a local folder, a file, or a model that is there. Raises ResourceError where the disk is too
    small, before anything is fetched, and ModelError where the hub cannot give it.
    """
    model = resolve(settings).source
    if model is None:
        return
    hub = hub_named(model.hub)
    folder = hub.cached(model)
    if folder is None or not has_weights(folder):
        files = hub.files(model)
        fetch(hub, model, {name: files[name] for name in weights_of(hub, model, files)}, listener)
