"""The objective interface: a pure function from model outputs to a summed loss, with a divisor known in advance."""

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
    """A loss sum; the engine divides it once, by the weight of the whole step."""

    sum: Tensor
    """Scalar, attached to the autograd graph."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """Further sums to report: detached scalars, divided like the loss, one per name in `Objective.metrics`."""


Couples = Literal["nothing", "example", "step"]


class Objective(Settings, ABC):
    """Settings of one objective; each public file in this folder defines one subclass.

    The loss of a step is the sum of `loss` over its packs, divided by `weight` of its examples.
    """

    title: ClassVar[str]
    """The name as written in papers."""
    forms: ClassVar[frozenset[str]]
    """The forms of rows it can train on (data.forms.FORMS)."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """Names of the metrics it reports besides the loss."""
    couples: ClassVar[Couples] = "nothing"
    """What a term of the loss depends on: one target, the sequences of one example, or all examples of a step."""
    needs_reference: ClassVar[bool] = False
    """Whether it compares the model with the model before training."""
    lr_factor: ClassVar[float] = 1.0
    """Factor on the learning rate the method suggests."""
    example: ClassVar[Mapping[str, object]] = {}
    """Values for the settings that have no default, for help texts and tests."""

    @property
    def name(self) -> str:
        """The objective's name: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def weight(self, examples: Sequence[Example]) -> float:
        """Return the divisor of these examples' loss, which must not depend on model outputs."""

    @abstractmethod
    def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
        """Return the summed loss of one pack; `reference` holds the reference model's `features`, if needed."""

    def head_bytes(self, head: Head, tokens: int) -> int:
        """Return the peak memory in bytes of a head and the loss, for a pack of `tokens` tokens."""
        from ._cross_entropy import head_bytes

        return head_bytes(head, tokens)

    def report(self, mean: float) -> dict[str, float]:
        """Return other measures derived from a mean loss, such as perplexity."""
        return {}


class SequenceObjective(Objective):
    """An objective whose loss is a function of one value (or vector) per sequence, such as a log-probability.

    If a term depends on sequences in different packs, the engine runs the packs twice: first for all features, without
    gradients, then for the gradient of sum(features * dL/dfeatures), which equals that of the loss (GradCache,
    https://arxiv.org/abs/2101.06983).
    """

    couples: ClassVar[Couples] = "example"

    @abstractmethod
    def features(self, outputs: Outputs) -> Tensor:
        """Return a value (S,) or vector (S, F) for each of a pack's sequences, in the pack's order."""

    @abstractmethod
    def feature_loss(
        self, features_S: Tensor, examples: Sequence[Example], reference: Tensor | None = None
    ) -> LossSum:
        """Return the summed loss of whole examples, given their sequences' features in the examples' order."""

    def loss(self, outputs: Outputs, reference: Tensor | None = None) -> LossSum:
        """Return the summed loss of a pack that holds whole examples."""
        import torch

        order_S = torch.from_numpy(outputs.pack.by_example).to(outputs.hidden_PD.device)
        referred_S = None if reference is None else reference[order_S]
        return self.feature_loss(self.features(outputs)[order_S], outputs.pack.examples, referred_S)
