"""What a model gives an objective: hidden states at the wanted positions, and the head that makes logits of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..data.batching.packing import Membership, Pack


@dataclass(frozen=True)
class Head:
    """What makes logits over a vocabulary of V of hidden states of width D."""

    project: Callable[[Tensor], Tensor]
    """(n, D) to (n, V)."""
    vocabulary: int
    """V."""
    weight_VD: Tensor | None = None
    """Set where `project` is factor * hidden @ weight.T and nothing else."""
    factor: float = 1.0
    compute: torch.dtype | None = None
    """The type the matrix is multiplied in; None for its own."""


@dataclass(frozen=True)
class Outputs:
    """What the model gave for the K trained targets of a pack of S sequences, at P positions, before the head.

    P is less than K where sequences that begin alike go on differently: one position then predicts several targets.
    An objective applies the head where it needs it, a few rows at a time: the logits of a pack may be too large.
    """

    hidden_PD: Tensor
    head: Head
    rows_K: Tensor
    """Which of the P positions predicts each target."""
    targets_K: Tensor
    weights_K: Tensor
    """A target's weight, added up over the sequences that share it."""
    pack: Pack
    """What went through the model: examples, sequences, and which target belongs to which (`pack.membership`)."""

    def logits_PV(self) -> Tensor:
        """Return all logits at once, for looking at a few positions."""
        return self.head.project(self.hidden_PD)

    def sums_S(self, values_K: Tensor) -> Tensor:
        """Return for each sequence the sum of weight * value over its targets: (S,) of (K,), (S, F) of (K, F)."""
        targets_M, sequences_M, weights_M = self._membership
        sums_S = values_K.new_zeros(len(self.pack.sequences), *values_K.shape[1:])
        weights_M = weights_M.to(values_K.dtype).reshape(-1, *[1] * (values_K.dim() - 1))
        return sums_S.index_add(0, sequences_M, weights_M * values_K[targets_M])

    @cached_property
    def _membership(self) -> tuple[Tensor, Tensor, Tensor]:
        import torch

        member: Membership = self.pack.membership
        arrays = (member.targets_M, member.sequences_M, member.weights_M)
        return tuple(torch.from_numpy(array).to(self.hidden_PD.device) for array in arrays)  # type: ignore[return-value]
