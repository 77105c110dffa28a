"""What an objective is: a pure function from what the model gave to a sum, with a divisor known beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from ..core.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..data.batching.packing import Membership, Pack
    from ..data.example import Example


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


@dataclass(frozen=True)
class LossSum:
    """A loss not yet divided: the engine divides once, by the weight of the whole step."""

    sum: Tensor
    """Scalar, with its graph."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """Further sums to report, scalars without a graph, divided like the loss; those that `Objective.metrics` names."""


Couples = Literal["nothing", "example", "step"]


class Objective(Settings, ABC):
    """Settings of one objective; each file in this folder derives one class.

    The loss of a step is the sum of `loss` over its packs, divided by `weight` of its examples.
    """

    title: ClassVar[str]
    """The name as papers write it."""
    forms: ClassVar[frozenset[str]]
    """What the rows it trains mean (data.forms.FORMS)."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """What it reports beside the loss."""
    couples: ClassVar[Couples] = "nothing"
    """What a term of the loss depends on: one target, the sequences of one example, or all examples of a step."""
    needs_reference: ClassVar[bool] = False
    """Whether it compares the model with what it was before training."""
    lr_factor: ClassVar[float] = 1.0
    """Times the rate that a method suggests."""

    @property
    def name(self) -> str:
        """The objective's name: its file's name."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def weight(self, examples: Sequence[Example]) -> float:
        """Return what the loss of these examples is divided by: known before anything is computed."""

    @abstractmethod
    def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
        """Return the summed loss of one pack; `reference` is what `features` gave with other weights."""

    def head_bytes(self, head: Head, tokens: int) -> int:
        """Return the most memory that a head and the loss behind it take at once, for a pack of so many tokens."""
        from ._cross_entropy import head_bytes

        return head_bytes(head, tokens)

    def report(self, mean: float) -> dict[str, float]:
        """Return what else a mean loss can be said as, such as a perplexity."""
        return {}


class SequenceObjective(Objective):
    """An objective whose loss is a function of one value (or vector) a sequence, such as a log-probability.

    Where the sequences that a term depends on do not lie in one pack, the engine goes through the packs twice: first
    for the features of all, without gradients, then for the gradient of sum(features * dL/dfeatures), which is that of
    the loss (GradCache, https://arxiv.org/abs/2101.06983).
    """

    couples: ClassVar[Couples] = "example"

    @abstractmethod
    def features(self, outputs: Outputs) -> Tensor:
        """Return a value (S,) or vector (S, F) for each of a pack's sequences, in the pack's order."""

    @abstractmethod
    def feature_loss(
        self, features_S: Tensor, examples: Sequence[Example], reference: Tensor | None = None
    ) -> LossSum:
        """Return the summed loss of whole examples from the features of their sequences, in the examples' order."""

    def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
        """Return the summed loss of a pack that holds whole examples."""
        import torch

        order_S = torch.from_numpy(outputs.pack.by_example).to(outputs.hidden_PD.device)
        referred_S = None if reference is None else reference[order_S]
        return self.feature_loss(self.features(outputs)[order_S], outputs.pack.examples, referred_S)
