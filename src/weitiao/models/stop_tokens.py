"""The tokens that end generation, as stored in a model's folder."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def set_stops(model: PreTrainedModel, stop_ids: Collection[int]) -> None:
    """Make a model end its answers at the tokens it was trained to end them with.

    Otherwise a saved folder keeps the base's stop tokens, and generation continues past the end of the answer.
    """
    if model.generation_config is None or not stop_ids:
        return
    stops = sorted(stop_ids)
    model.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
