"""The attention layout of a pack: masks and bounds, made once per pack and read by every block.

Shapes: T rows of a pack, S segments, Q queries, k keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...data.batching.packing import Interval, Pack, Segment
from ..runtime.transfer import begin_copy
from .block_mask import Visibility, make_block_mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


# Not frozen: torch.compile (2.11) traces into frozen dataclasses, and would recompile blocks for each pack's layout.
@dataclass(eq=False)
class Layout:
    """The segments of a pack, as rows of its keys, with caches of the masks made from them."""

    segments: tuple[Segment, ...]
    """From left to right; a segment sees only rows before it and its own."""
    _masks: dict[object, Tensor] = field(default_factory=dict, compare=False, repr=False)
    _block_masks: dict[object, BlockMask] = field(default_factory=dict, compare=False, repr=False)
    _bounds: dict[torch.device, Tensor] = field(default_factory=dict, compare=False, repr=False)
    _moved: dict[tuple[int, int], Layout] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, pack: Pack) -> Layout:
        """Return the layout of a pack."""
        return cls(pack.segments)

    @cached_property
    def end(self) -> int:
        """One past the last row."""
        return self.segments[-1].end

    @cached_property
    def rows(self) -> list[int]:
        """The number of rows of each segment."""
        return [segment.end - segment.start for segment in self.segments]

    @cached_property
    def shares(self) -> bool:
        """Whether any segment sees rows of other segments."""
        return any(segment.context for segment in self.segments)

    def bounds(self, device: torch.device) -> Tensor:
        """Return the start of each segment, and the end: cumulative lengths (S + 1,), int32, for varlen kernels."""
        if device not in self._bounds:
            starts = [segment.start for segment in self.segments]
            self._bounds[device] = begin_copy(torch.tensor([*starts, self.end], dtype=torch.int32), device)
        return self._bounds[device]

    def padded_bounds(self, device: torch.device) -> Tensor:
        """Return `bounds` padded with empty segments to (T + 1,), the largest size possible for T rows."""
        bounds = self.bounds(device)
        return functional.pad(bounds, (0, self.end + 1 - len(bounds)), value=self.end)

    @cached_property
    def pieces(self) -> tuple[list[int], list[list[int]]]:
        """Split the keys into pieces; return their lengths, and for each segment the indices of the pieces it sees."""
        seen = [_joined([*segment.context, (segment.start, segment.end)]) for segment in self.segments]
        cuts = sorted({0, *(bound for intervals in seen for interval in intervals for bound in interval)})
        number = {cut: index for index, cut in enumerate(cuts)}
        lengths = [end - start for start, end in pairwise(cuts)]
        return lengths, [
            [piece for start, end in intervals for piece in range(number[start], number[end])]
            for intervals in seen
        ]

    def behind(self, keys: int, queries: int) -> Layout:
        """Return the layout with `keys` rows in front that every example sees; `queries` of them have queries too.

        A method's virtual tokens are rows like any other (`queries == keys`); those of a key-value prefix have no
        queries.
        """
        if not keys:
            return self
        if (keys, queries) not in self._moved:
            front = ((0, keys),)
            moved = tuple(
                Segment(s.start + keys, s.end + keys, (*front, *((a + keys, b + keys) for a, b in s.context)))
                for s in self.segments
            )
            own = (Segment(0, keys),) if queries else ()
            self._moved[keys, queries] = Layout(own + moved)
        return self._moved[keys, queries]

    def mask(self, segment: Segment, window: int | None, device: torch.device) -> Tensor | None:
        """Return (Q, k), True where a segment's query sees a key; None if plain causal attention is equivalent.

        A query sees keys up to its own; with a sliding window only the last `window` of them, its own included.
        """
        context = sum(end - start for start, end in segment.context)
        own = segment.end - segment.start
        if not context and (window is None or own <= window):
            return None
        name = (own, context, window, device)
        if name not in self._masks:
            queries_Q1 = torch.arange(context, context + own, device=device)[:, None]
            distance_Qk = queries_Q1 - torch.arange(context + own, device=device)
            mask_Qk = distance_Qk >= 0
            self._masks[name] = mask_Qk if window is None else mask_Qk & (distance_Qk < window)
        return self._masks[name]

    def bias(self, segment: Segment, window: int | None, like: Tensor) -> Tensor | None:
        """Return `mask` as an additive bias: 0 where a key is seen, else -inf, in the dtype of `like`."""
        mask_Qk = self.mask(segment, window, like.device)
        if mask_Qk is None:
            return None
        name = (mask_Qk.shape, window, like.device, like.dtype)
        if name not in self._masks:
            self._masks[name] = torch.zeros_like(mask_Qk, dtype=like.dtype).masked_fill_(~mask_Qk, -torch.inf)
        return self._masks[name]

    def visibility(self, keys: int, queries: int, window: int | None) -> Visibility:
        """Return which query sees which key, over all `keys` and `queries` of a pack.

        Segments are in depth-first order of the prefix tree, so the rows that see a row are those from itself to the
        end of its last descendant.
        """
        until_k, positions_k = np.arange(keys, dtype=np.int32), np.zeros(keys, dtype=np.int32)
        for segment in self.segments:
            at = 0
            for start, end in (*segment.context, (segment.start, segment.end)):
                until_k[start:end] = segment.end
                positions_k[start:end] = np.arange(at, at + end - start)
                at += end - start
        ahead = keys - queries  # leading keys without a query
        # Without a window, subtracting `keys` puts the limit before every position.
        earliest_q = positions_k[ahead:] - (keys if window is None else window - 1)
        from_k = np.arange(-ahead, queries, dtype=np.int32)
        return Visibility(from_k, until_k - np.int32(ahead), positions_k, earliest_q.astype(np.int32))

    def block_mask(self, keys: int, queries: int, window: int | None, device: torch.device) -> BlockMask:
        """Return `visibility` as FlexAttention's block mask, the same for every batch entry and head."""
        name = (keys, queries, window, device)
        if name not in self._block_masks:
            self._block_masks[name] = make_block_mask(self.visibility(keys, queries, window), device)
        return self._block_masks[name]


def _joined(intervals: Sequence[Interval]) -> list[Interval]:
    """Merge adjacent intervals."""
    joined = [intervals[0]]
    for start, end in intervals[1:]:
        if joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
