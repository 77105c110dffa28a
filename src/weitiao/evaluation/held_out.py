"""The held-out loss and its perplexity: what the model makes of answers it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ..data.conversation import Example
from ..engine.forward import Forward
from ..objectives._base import Objective

EXAMPLES_AT_ONCE = 64

ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class HeldOut:
    """What a look at the held-out examples gave."""

    loss: float
    """Summed loss over summed weight of all examples, in nats a trained token."""

    @property
    def perplexity(self) -> float:
        """exp(loss): among how many equally likely tokens the model wavers."""
        return math.exp(min(self.loss, 700.0))

    def as_fields(self) -> dict[str, float]:
        """Return loss and perplexity as fields of an event."""
        return {"loss": self.loss, "perplexity": self.perplexity}


def never() -> bool:
    """Answer no to whether to stop."""
    return False


@torch.no_grad()
def measure_held_out(
    forward: Forward,
    objective: Objective,
    examples: Sequence[Example],
    pack_tokens: int,
    should_stop: ShouldStop = never,
) -> HeldOut | None:
    """Return the held-out loss in evaluation mode, or None where `should_stop` said so between two packs."""
    was_training = forward.model.training
    forward.model.eval()
    total = weight = 0.0
    try:
        for loss, part in _losses(forward, objective, examples, pack_tokens):
            if should_stop():
                return None
            total, weight = total + loss, weight + part
    finally:
        forward.model.train(was_training)
    return HeldOut(total / weight)


def _losses(
    forward: Forward, objective: Objective, examples: Sequence[Example], pack_tokens: int
) -> Iterator[tuple[float, float]]:
    for start in range(0, len(examples), EXAMPLES_AT_ONCE):
        for pack in forward.ahead(forward.cut(examples[start : start + EXAMPLES_AT_ONCE], pack_tokens)):
            loss_sum = objective.loss(forward.outputs(pack))
            yield float(loss_sum.sum), float(loss_sum.weight)
