"""A model's output for an objective: hidden states at the trained positions, and the head that makes logits of them."""

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
    """The output head: maps hidden states of width D to logits over a vocabulary of V."""

    project: Callable[[Tensor], Tensor]
    """(n, D) to (n, V)."""
    vocabulary: int
    """V."""
    weight_VD: Tensor | None = None
    """Set only if `project` is exactly factor * hidden @ weight.T."""
    factor: float = 1.0
    compute: torch.dtype | None = None
    """The dtype to multiply in; None for the weight's own."""


@dataclass(frozen=True)
class Outputs:
    """The head's input for the K trained targets of a pack of S sequences, at P positions.

    P is less than K if sequences with a shared prefix continue differently: one position then predicts several targets.
    An objective applies the head itself, a few rows at a time, because the logits of a whole pack may be too large.
    """

    hidden_PD: Tensor
    head: Head
    rows_K: Tensor
    """Which of the P positions predicts each target."""
    targets_K: Tensor
    weights_K: Tensor
    """A target's weight, added up over the sequences that share it."""
    pack: Pack
    """The model's input: examples, sequences, and which target belongs to which sequence (`pack.membership`)."""

    def logits_PV(self) -> Tensor:
        """Return the logits (P, V) all at once; only for few positions."""
        return self.head.project(self.hidden_PD)

    def sums_S(self, values_K: Tensor) -> Tensor:
        """Return each sequence's sum of weight * value over its targets: (S,) for (K,), (S, F) for (K, F)."""
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
