"""Which rows are held out: a seeded function of their content, so equal rows never stand on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..core.errors import DataError, Problem
from .conversation import Conversation

MOST_BY_SHARE = 200


def split_held_out(
    conversations: Sequence[Conversation], held_out: float, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """Return (train, held out), both in the order given; raises DataError where nothing would be left to
    train on.

    `held_out` below 1 is a share of the rows (rounded down, at most 200), from 1 on a number of rows. Rows
    equal to each other go together, so the number may be exceeded by copies.
    """
    wanted = int(held_out) if held_out >= 1 else min(MOST_BY_SHARE, int(held_out * len(conversations) + 1e-9))
    keys = [content_key(one, seed) for one in conversations]
    copies: dict[bytes, int] = {}
    for key in keys:
        copies[key] = copies.get(key, 0) + 1
    chosen: set[bytes] = set()
    count = 0
    for key in sorted(copies):
        if count >= wanted:
            break
        chosen.add(key)
        count += copies[key]
    if conversations and len(chosen) == len(copies):
        got = f"data.held_out={held_out:g} of {len(conversations)} rows, {len(copies)} of them different"
        raise DataError(
            Problem("nothing would be left to train on", got, "fewer rows held out", "data.held_out=0")
        )
    train = [one for one, key in zip(conversations, keys, strict=True) if key not in chosen]
    return train, [one for one, key in zip(conversations, keys, strict=True) if key in chosen]


def content_key(one: Conversation, seed: int) -> bytes:
    """Return a hash of a conversation's turns and a seed; place and weight do not enter."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=16)
    for message in one.messages:
        digest.update(
            f"\0{message.role}\0{len(message.content)}\0{message.content}".encode("utf-8", "surrogatepass")
        )
    return digest.digest()


def count_duplicates(conversations: Sequence[Conversation]) -> int:
    """Return how many rows repeat an earlier one."""
    return len(conversations) - len({content_key(one, 0) for one in conversations})
