"""Randomness as a function of (seed, step, pack): a resumed or redone step draws what the first one drew."""

from __future__ import annotations

import hashlib

import torch

NO_PACK = -1
"""Stands for what a step draws outside its packs."""


def seed_step(seed: int, step: int, pack: int = 0) -> None:
    """Seed torch's generators for the dropout and noise of one pack of a step, by its index among all the step's.

    So what a pack draws depends neither on which packs ran before it nor on the rank that runs it.
    """
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    torch.manual_seed((int.from_bytes(digest[:8], "little") >> 1) + pack)
