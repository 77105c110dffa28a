"""Losses whose terms span several packs: first the features of all sequences, then the gradients pack by pack.

With f the features of a step's sequences and L its loss, dL/dw = sum over packs of d(sum f * g)/dw, where g = dL/df is
computed once, from all features, and held fixed (GradCache, https://arxiv.org/abs/2101.06983).

Shapes: S sequences, F values of a feature vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..data.batching.packing import Pack
from ..data.example import Example
from ..objectives._base import LossSum, Objective, SequenceObjective
from .forward import Forward
from .runtime.distributed import Ranks


class Reference(Protocol):
    """The model before training."""

    def features(self, objective: SequenceObjective, pack: Pack) -> Tensor:
        """Return the features (S, ...) of a pack's sequences, in the pack's order, without gradients."""


@dataclass(frozen=True)
class MethodOff:
    """The reference of a newly initialised adapter: the same model with the adapter disabled."""

    forward: Forward
    disabled: Callable[[], AbstractContextManager[object]]
    """Returns a context manager that disables the adapter."""

    @torch.no_grad()
    def features(self, objective: SequenceObjective, pack: Pack) -> Tensor:
        """Return the features of a pack in evaluation mode; call inside `Forward.attention()`."""
        model = self.forward.model
        was_training = model.training
        model.eval()
        try:
            with self.disabled():
                return objective.features(self.forward.outputs(pack))
        finally:
            model.train(was_training)


@dataclass
class Gathered:
    """The features of a step's sequences, collected pack by pack."""

    step: Sequence[Example]
    _found: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def take(self, pack: Pack, features_S: Tensor) -> None:
        """Store the features of a pack's sequences."""
        for (example, number), feature in zip(pack.owners, features_S, strict=True):
            self._found[pack.numbers[example], number] = feature

    @property
    def examples(self) -> list[int]:
        """The numbers of the examples that have features here, ascending."""
        return sorted({at for at, _ in self._found})

    def of(self, numbers: Sequence[int]) -> Tensor:
        """Return the features (S, ...) of all sequences of these examples, in order."""
        return torch.stack([self._found[key] for key in keys_of(self.step, numbers)])

    @property
    def any_feature(self) -> Tensor | None:
        """Any one feature, to read its shape from; None if there are none."""
        return next(iter(self._found.values()), None)

    def spread(self, numbers: Sequence[int], width: int, like: Tensor) -> Tensor:
        """Return the features of these examples as rows (S, F); zeros for those that another rank holds."""
        zeros_F = like.new_zeros(width)
        return torch.stack([self._found.get(key, zeros_F).reshape(-1) for key in keys_of(self.step, numbers)])


def keys_of(step: Sequence[Example], numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return (example, sequence) numbers for all sequences of some examples of a step."""
    return [(at, number) for at in numbers for number in range(len(step[at].sequences))]


def need_two_passes(objective: Objective, packs: Sequence[Pack]) -> bool:
    """Return whether a term of the loss needs sequences of different packs."""
    if objective.couples == "step":
        return len(packs) > 1
    if objective.couples == "nothing":
        return False
    here = Counter(pack.numbers[example] for pack in packs for example, _ in pack.owners)
    return any(
        here[at] > sum(own == number for own, _ in pack.owners)
        for pack in packs
        for number, at in enumerate(pack.numbers)
    )


@dataclass(frozen=True)
class FeatureGradients:
    """The loss of a step and its gradients with respect to the features of the step's sequences."""

    loss: LossSum
    gradients: dict[tuple[int, int], Tensor]
    """Keyed by the example's number in the step and the sequence's number in the example."""

    def surrogate(self, objective: SequenceObjective, forward: Forward, pack: Pack) -> Tensor:
        """Return a scalar whose gradient is this pack's part of the loss's gradient."""
        features_S = objective.features(forward.outputs(pack))
        keys = [(pack.numbers[example], number) for example, number in pack.owners]
        gradients_S = torch.stack([self.gradients[key] for key in keys])
        return (features_S * gradients_S.to(features_S)).sum()


def feature_gradients(
    objective: SequenceObjective,
    step: Sequence[Example],
    own: Gathered,
    referred: Gathered | None,
    ranks: Ranks,
    device: torch.device,
) -> FeatureGradients:
    """Return the loss of a step and its gradients w.r.t. all features; each rank contributes its packs' features."""
    numbers = [at for at, example in enumerate(step) if example.trained_tokens]
    features_S = _of_all_ranks(own, numbers, ranks, device).requires_grad_()
    reference_S = None if referred is None else _of_all_ranks(referred, numbers, ranks, device)
    with torch.enable_grad():
        loss = objective.feature_loss(features_S, [step[at] for at in numbers], reference_S)
        (gradients_S,) = torch.autograd.grad(loss.sum, features_S)
    by_key = dict(zip(keys_of(step, numbers), gradients_S, strict=True))
    return FeatureGradients(LossSum(loss.sum.detach(), loss.metrics), by_key)


def _of_all_ranks(own: Gathered, numbers: Sequence[int], ranks: Ranks, device: torch.device) -> Tensor:
    """Return the features (S,) or (S, F) of all sequences of a step, equal on every rank."""
    if ranks.world_size == 1:
        return own.of(numbers).to(device)
    first = own.any_feature
    width = ranks.largest(0 if first is None else max(1, first.numel()))
    vectors = ranks.any(first is not None and first.dim() > 0)
    rows_SF = own.spread(numbers, width, torch.zeros((), device=device))
    ranks.sum(rows_SF)
    return rows_SF if vectors else rows_SF[:, 0]
