"""Randomness as a function of (seed, step): a resumed or redone step draws what the first one drew."""

from __future__ import annotations

import hashlib

import torch


def seed_step(seed: int, step: int) -> None:
    """Seed torch's generators for one step's dropout and noise."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
