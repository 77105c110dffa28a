"""Random seeds as a function of (seed, step, pack): a resumed or redone step draws the same random numbers."""

from __future__ import annotations

import hashlib

import torch

NO_PACK = -1
"""The pack index for random draws of a step outside its packs."""


def seed_step(seed: int, step: int, pack: int = 0) -> None:
    """Seed torch's generators for the dropout and noise of one pack, given its index among all packs of the step.

    A pack's random draws thus depend neither on the packs that ran before it nor on the rank that runs it.
    """
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    torch.manual_seed((int.from_bytes(digest[:8], "little") >> 1) + pack)
