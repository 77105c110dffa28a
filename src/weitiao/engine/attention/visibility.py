"""Who sees whom in a pack: the form in which attention needs it, made once a pack and read by every block.

Shapes: T rows of a pack, n rows a method puts in front of it, Q queries, k keys.
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


# Not frozen: into what is, torch.compile (2.11) looks, and it would compile blocks anew for each pack's layout.
@dataclass(eq=False)
class Layout:
    """The segments of a pack, in rows of its keys."""

    segments: tuple[Segment, ...]
    """From left to right; whatever a segment sees stands before it."""
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
        """The row after the last."""
        return self.segments[-1].end

    @cached_property
    def rows(self) -> list[int]:
        """How many rows each segment has to itself."""
        return [segment.end - segment.start for segment in self.segments]

    @cached_property
    def shares(self) -> bool:
        """Whether any segment sees rows outside itself."""
        return any(segment.context for segment in self.segments)

    def bounds(self, device: torch.device) -> Tensor:
        """Return where each segment begins, and the end: (S + 1,) of int32, as kernels of one launch a pack read it."""
        if device not in self._bounds:
            starts = [segment.start for segment in self.segments]
            self._bounds[device] = begin_copy(torch.tensor([*starts, self.end], dtype=torch.int32), device)
        return self._bounds[device]

    def padded_bounds(self, device: torch.device) -> Tensor:
        """Return `bounds` as (T + 1,), with empty segments at the end: as long for any T rows as there can be."""
        bounds = self.bounds(device)
        return functional.pad(bounds, (0, self.end + 1 - len(bounds)), value=self.end)

    @cached_property
    def pieces(self) -> tuple[list[int], list[list[int]]]:
        """Return the lengths of pieces the keys fall into, and for each segment the pieces it sees, in order."""
        seen = [_joined([*segment.context, (segment.start, segment.end)]) for segment in self.segments]
        cuts = sorted({0, *(bound for intervals in seen for interval in intervals for bound in interval)})
        number = {cut: index for index, cut in enumerate(cuts)}
        lengths = [end - start for start, end in pairwise(cuts)]
        return lengths, [
            [piece for start, end in intervals for piece in range(number[start], number[end])]
            for intervals in seen
        ]

    def behind(self, keys: int, queries: int) -> Layout:
        """Return the layout with `keys` rows in front that every example sees; `queries` of them also look.

        A method's virtual tokens are rows like any other; the keys and values of a prefix ask nothing themselves.
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
        """Return (Q, k), True where a segment's query sees a key; None where plain causal attention says the same.

        A key is seen from itself on, in a sliding window by `window` tokens.
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
        """Return `mask` as what is added to scores: 0 where a key is seen and -inf elsewhere, in the type of `like`."""
        mask_Qk = self.mask(segment, window, like.device)
        if mask_Qk is None:
            return None
        name = (mask_Qk.shape, window, like.device, like.dtype)
        if name not in self._masks:
            self._masks[name] = torch.zeros_like(mask_Qk, dtype=like.dtype).masked_fill_(~mask_Qk, -torch.inf)
        return self._masks[name]

    def visibility(self, keys: int, queries: int, window: int | None) -> Visibility:
        """Return which query sees which key, over all `keys` and `queries` of a pack.

        Depth first, the rows below a row are those after it, up to where its last descendant ends.
        """
        until_k, positions_k = np.arange(keys, dtype=np.int32), np.zeros(keys, dtype=np.int32)
        for segment in self.segments:
            at = 0
            for start, end in (*segment.context, (segment.start, segment.end)):
                until_k[start:end] = segment.end
                positions_k[start:end] = np.arange(at, at + end - start)
                at += end - start
        ahead = keys - queries  # keys that have no query of their own
        earliest_q = positions_k[ahead:] - (keys if window is None else window - 1)
        from_k = np.arange(-ahead, queries, dtype=np.int32)
        return Visibility(from_k, until_k - np.int32(ahead), positions_k, earliest_q.astype(np.int32))

    def block_mask(self, keys: int, queries: int, window: int | None, device: torch.device) -> BlockMask:
        """Return what `visibility` says in the form FlexAttention reads, for any batch and head."""
        name = (keys, queries, window, device)
        if name not in self._block_masks:
            self._block_masks[name] = make_block_mask(self.visibility(keys, queries, window), device)
        return self._block_masks[name]


def _joined(intervals: Sequence[Interval]) -> list[Interval]:
    """Return the intervals with those made one that follow each other."""
    joined = [intervals[0]]
    for start, end in intervals[1:]:
        if joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
