"""Attention as plain matrix products, used when these come from oneDNN (engine/kernels/matmul.py).

torch's own CPU attention multiplies with MKL, which is slowest in its backward pass. Here a block of queries, of all
heads that share a key, is multiplied by all the keys it may see, so only one block's scores are in memory at a time.
Scores are recomputed in the backward pass, as in FlashAttention (https://arxiv.org/abs/2205.14135), but without its
tiling over keys.

Shapes: H heads, g groups of heads that share keys and values, q queries and k keys of a segment, of which the last q
belong to the queries, D head size; of a block: b queries, s keys that these see, r = b * H / g rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from ..kernels.matmul import multiply

SCORES_AT_ONCE = 196_608
"""Scores per block, 768 KiB: more would not fit into a core's L2 cache."""
FEWEST_QUERIES = 64
"""Smallest block of queries, whatever its scores: with fewer, call overhead exceeds the products."""
FEWEST_ROWS = 512
"""Rows per group in a segment; below this, torch's own attention is as fast."""


def pays(query_HqD: Tensor, groups: int) -> bool:
    """Return whether a segment is long enough for this to be faster than torch's attention."""
    heads, queries, _ = query_HqD.shape
    return queries * heads // groups >= FEWEST_ROWS


def scratch_bytes(longest: int, each: int) -> int:
    """Return the most scratch bytes of a pass over a segment: a block's softmax and the gradients of it and of scores.

    `longest` is the number of keys of the longest example, `each` the number of heads that share a key.
    """
    scores = max(SCORES_AT_ONCE, FEWEST_QUERIES * each * longest)
    return 3 * 4 * min(scores, each * longest**2)


@dataclass(frozen=True)
class ProductAttention:
    """Causal attention in fp32 on the CPU: a query attends to its own key and those before."""

    scaling: float | None = None
    """Factor on the scores; None for D ** -0.5."""
    window: int | None = None
    """Sliding window: most keys a query sees, its own included; None for no limit."""

    def forward(self, query_HqD: Tensor, key_gkD: Tensor, value_gkD: Tensor) -> Tensor:
        """Return the output (q, H, D)."""
        query_gqhD, key_gkD, value_gkD = _by_group(query_HqD, key_gkD), *_close(key_gkD, value_gkD)
        groups, queries, each, size = query_gqhD.shape
        factor = self._factor(size)
        attended_qghD = query_HqD.new_empty(queries, groups, each, value_gkD.shape[2])
        for group, rows, seen in _blocks(query_gqhD, key_gkD):
            share_rs = _shares(
                _rows(query_gqhD[group, rows] * factor), key_gkD[group, :seen], each, self.window
            )
            attended_qghD[rows, group] = multiply(share_rs, value_gkD[group, :seen]).view(
                -1, each, value_gkD.shape[2]
            )
        return attended_qghD.flatten(1, 2)

    def backward(
        self, grad_qHD: Tensor, query_HqD: Tensor, key_gkD: Tensor, value_gkD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value."""
        query_gqhD, grad_gqhD = (_by_group(of, key_gkD) for of in (query_HqD, grad_qHD.transpose(0, 1)))
        key_gkD, value_gkD = _close(key_gkD, value_gkD)
        each, factor = query_gqhD.shape[2], self._factor(query_gqhD.shape[3])
        to_query_qghD = torch.empty_like(query_gqhD.transpose(0, 1), memory_format=torch.contiguous_format)
        to_key_gDk, to_value_gDk = (torch.zeros_like(of.mT) for of in (key_gkD, value_gkD))
        for group, rows, seen in _blocks(query_gqhD, key_gkD):
            query_rD, grad_rD = _rows(query_gqhD[group, rows] * factor), _rows(grad_gqhD[group, rows])
            key_sD, value_sD = key_gkD[group, :seen], value_gkD[group, :seen]
            share_rs = _shares(query_rD, key_sD, each, self.window)
            to_share_rs = multiply(grad_rD, value_sD.t())
            to_score_rs = torch._softmax_backward_data(to_share_rs, share_rs, -1, torch.float32)
            to_query_rD = multiply(to_score_rs, key_sD).mul_(factor)
            to_query_qghD[rows, group] = to_query_rD.view(-1, each, to_query_rD.shape[1])
            # Computed transposed: transposing copies an operand, and this way it is the narrow one.
            to_key_gDk[group, :, :seen] += multiply(query_rD.t(), to_score_rs)
            to_value_gDk[group, :, :seen] += multiply(grad_rD.t(), share_rs)
        return to_query_qghD.flatten(1, 2).transpose(0, 1), to_key_gDk.mT, to_value_gDk.mT

    def _factor(self, size: int) -> float:
        return size**-0.5 if self.scaling is None else self.scaling


def _by_group(of_HqD: Tensor, key_gkD: Tensor) -> Tensor:
    """Split heads into groups: return (g, q, H / g, D)."""
    groups, (heads, queries, size) = len(key_gkD), of_HqD.shape
    return of_HqD.reshape(groups, heads // groups, queries, size).transpose(1, 2)


def _close(*tensors: Tensor) -> Iterator[Tensor]:
    return (tensor.contiguous() for tensor in tensors)


def _rows(of_bhD: Tensor) -> Tensor:
    """Return (r, D), in which a query's heads are consecutive."""
    return of_bhD.reshape(-1, of_bhD.shape[2])


def _blocks(query_gqhD: Tensor, key_gkD: Tensor) -> Iterator[tuple[int, slice, int]]:
    """Yield each block: a group, a slice of its queries, and the number of keys the last of these sees."""
    groups, queries, each, _ = query_gqhD.shape
    keys = key_gkD.shape[1]
    size = max(FEWEST_QUERIES, SCORES_AT_ONCE // (each * keys))
    for start, end in pairwise([*range(0, queries, size), queries]):
        for group in range(groups):
            yield group, slice(start, end), keys - queries + end


def _shares(query_rD: Tensor, key_sD: Tensor, each: int, window: int | None) -> Tensor:
    """Return the attention weights (r, s): softmax(query @ key.T) over the keys each query sees."""
    score_rs = multiply(query_rD, key_sD.t())
    keys = len(key_sD)
    bias_bs = _bias(len(query_rD) // each, keys, window)
    score_rs.view(-1, each, keys).add_(bias_bs[:, None])
    return score_rs.softmax(dim=-1)


@lru_cache(maxsize=32)
def _bias(queries: int, keys: int, window: int | None) -> Tensor:
    """Return the additive mask (b, s): 0 where a query sees a key, else -inf; the queries' own keys are the last."""
    position_b1 = torch.arange(keys - queries, keys)[:, None]
    distance_bs = position_b1 - torch.arange(keys)
    seen_bs = distance_bs >= 0
    if window is not None:
        seen_bs &= distance_bs < window
    return torch.zeros(queries, keys).masked_fill_(~seen_bs, -torch.inf)
