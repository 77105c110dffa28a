"""How many tokens go through the model at once, where nothing is said."""

from __future__ import annotations

import torch

PACK_TOKENS_CPU = 1024
"""Matrix products of a CPU are as fast as they get from some 500 rows on; more tokens only take memory."""
PACK_TOKENS_GPU = 8192


def default_pack_tokens(device: torch.device) -> int:
    """Return the token budget of a pack on a device."""
    return PACK_TOKENS_CPU if device.type == "cpu" else PACK_TOKENS_GPU
