"""What an objective is: a pure function from what the model gave to a sum, with a divisor known beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from ..core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.example import Example
    from ._outputs import Head, Outputs


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
