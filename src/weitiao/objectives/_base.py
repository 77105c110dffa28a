"""What an objective is: a pure function from what the model gave at the wanted positions to a sum and its weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..core.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor


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
    """What the model gave for the K trained targets of a pack, at P positions, before the head.

    P is less than K where examples that begin alike go on differently: one position then predicts several targets.
    An objective applies the head where it needs it, a few rows at a time: the logits of a pack may be too large.
    """

    hidden_PD: Tensor
    head: Head
    rows_K: Tensor
    """Which of the P positions predicts each target."""
    targets_K: Tensor
    weights_K: Tensor

    def logits_PV(self) -> Tensor:
        """Return all logits at once, for looking at a few positions."""
        return self.head.project(self.hidden_PD)


@dataclass(frozen=True)
class LossSum:
    """A loss not yet divided: the engine divides once, by the weight of the whole step."""

    sum: Tensor
    """Scalar, with its graph."""
    weight: float | Tensor
    """What this part adds to the divisor; a scalar on the device where asking for it would mean waiting for it."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further sums to report, divided like the loss."""


class Objective(Settings, ABC):
    """Settings of one objective; each file in this folder derives one class."""

    title: ClassVar[str]
    """The name as papers write it."""
    forms: ClassVar[frozenset[str]]
    """What the rows it trains mean (data.forms.FORMS)."""

    @property
    def name(self) -> str:
        """The objective's name: its file's name."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def loss(self, outputs: Outputs) -> LossSum:
        """Return the summed loss of one pack and its weight."""
