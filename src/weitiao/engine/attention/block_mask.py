"""The FlexAttention block mask of a pack, computed from the range of queries that see each key.

torch's own `create_block_mask` evaluates the mask for every query and key: several tables of 64 MiB for a pack of 8,192
rows. Here each key is compared with blocks of queries only, on the CPU, while the GPU is busy.

Shapes: Q queries, k keys, M blocks of queries, N blocks of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.transfer import begin_copy

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Rows of a block of queries or keys: the size FlexAttention's kernels are tuned for."""

Ints = NDArray[np.int32]
Booleans = NDArray[np.bool_]
SeesKey = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Visibility:
    """Which queries see key k: those in [`from_k`, `until_k`) whose window reaches back to position `positions_k`."""

    from_k: Ints
    until_k: Ints
    positions_k: Ints
    earliest_q: Ints
    """The first position in a query's window."""

    def as_function(self, device: torch.device) -> SeesKey:
        """Return the mask function for FlexAttention's `mask_mod`: whether query q sees key k.

        All data is in tensors: Python numbers in the closure would make torch compile the function anew for each pack.
        """
        arrays = (self.from_k, self.until_k, self.positions_k, self.earliest_q)
        from_k, until_k, positions_k, earliest_q = (begin_copy(torch.from_numpy(a), device) for a in arrays)

        def sees(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
            below = (from_k[key] <= query) & (query < until_k[key])
            return below & (earliest_q[query] <= positions_k[key])

        return sees

    def blocks(self) -> tuple[Booleans, Booleans]:
        """Return two masks (M, N): blocks in which something may be seen, and full blocks in which everything is.

        With a sliding window the first may include blocks in which nothing is seen; that costs time but is correct.
        """
        queries, keys = len(self.earliest_q), len(self.from_k)
        first_M = np.arange(0, queries, BLOCK, dtype=np.int32)
        last_M = np.minimum(first_M + BLOCK, queries) - 1
        nearest_M = np.minimum.reduceat(self.earliest_q, first_M)
        farthest_M = np.maximum.reduceat(self.earliest_q, first_M)
        some_Mk = (self.from_k <= last_M[:, None]) & (first_M[:, None] < self.until_k)
        some_Mk &= nearest_M[:, None] <= self.positions_k
        all_Mk = (self.from_k <= first_M[:, None]) & (last_M[:, None] < self.until_k)
        all_Mk &= farthest_M[:, None] <= self.positions_k
        first_N = np.arange(0, keys, BLOCK)
        some_MN = np.logical_or.reduceat(some_Mk, first_N, axis=1)
        all_MN = np.logical_and.reduceat(all_Mk, first_N, axis=1)
        # A partial last block is never full.
        all_MN[queries // BLOCK :], all_MN[:, keys // BLOCK :] = False, False
        return some_MN, all_MN


def make_block_mask(visible: Visibility, device: torch.device) -> BlockMask:
    """Return FlexAttention's block mask, the same for every batch entry and head."""
    from torch.nn.attention.flex_attention import BlockMask

    some_MN, all_MN = visible.blocks()
    mask = BlockMask.from_kv_blocks(
        *_in_order(some_MN & ~all_MN),
        *_in_order(all_MN),
        BLOCK_SIZE=BLOCK,
        mask_mod=visible.as_function(device),
        seq_lengths=(len(visible.earliest_q), len(visible.from_k)),
    )
    return mask.to(device)


def _in_order(chosen_MN: Booleans) -> tuple[Tensor, Tensor]:
    """Return the count of chosen key blocks per query block, (1, 1, M), and all indices, chosen first, (1, 1, M, N)."""
    counts = torch.from_numpy(chosen_MN.sum(axis=1, dtype=np.int32))
    order = torch.from_numpy(np.argsort(~chosen_MN, axis=1, kind="stable").astype(np.int32))
    return counts[None, None], order[None, None]
