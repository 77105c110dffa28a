"""The tokens that end generation, as a model's folder carries them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def set_stops(model: PreTrainedModel, stop_ids: Collection[int]) -> None:
    """Let a model end its answers on the tokens it was trained to end them with.

    Without that a folder keeps the base's stop tokens, and whoever loads it generates past the end of the answer.
    """
    if model.generation_config is None or not stop_ids:
        return
    stops = sorted(stop_ids)
    model.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
