"""The held-out loss and its perplexity: what the model makes of answers it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from ..core.errors import DataError, Problem
from ..data.conversation import Example
from ..engine.forward import Forward
from ..objectives._base import Objective

EXAMPLES_AT_ONCE = 64
PLACES_SHOWN = 3
"""How many places an error names."""

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
    on_progress: Callable[[float, float], None] | None = None,
) -> HeldOut | None:
    """Return the held-out loss in evaluation mode, or None where `should_stop` said so between two packs.

    `on_progress` is told, after each pack, how many examples are done, of how many.
    Raises DataError where no token of the examples is trained.
    """
    was_training = forward.model.training
    forward.model.eval()
    total = weight = 0.0
    try:
        for loss, part, done in _losses(forward, objective, examples, pack_tokens):
            if should_stop():
                return None
            total, weight = total + loss, weight + part
            if on_progress is not None:
                on_progress(done, len(examples))
    finally:
        forward.model.train(was_training)
    if not weight:
        raise DataError(_nothing_to_measure(examples))
    return HeldOut(total / weight)


def _nothing_to_measure(examples: Sequence[Example]) -> Problem:
    places = ", ".join(example.place for example in islice(examples, PLACES_SHOWN))
    return Problem(
        "there is no loss to measure: no token of these examples is trained",
        f"{len(examples)} examples, {places or 'none'}",
        "at least one trained token behind the first, which nothing comes before",
        "data.held_out=10, or another data.held_out_path",
    )


def _losses(
    forward: Forward, objective: Objective, examples: Sequence[Example], pack_tokens: int
) -> Iterator[tuple[float, float, int]]:
    """Yield each pack's summed loss and weight, and how many examples are done."""
    done = 0
    for start in range(0, len(examples), EXAMPLES_AT_ONCE):
        for pack in forward.ahead(forward.cut(examples[start : start + EXAMPLES_AT_ONCE], pack_tokens)):
            loss_sum = objective.loss(forward.outputs(pack))
            done += len(pack.examples)
            yield float(loss_sum.sum), float(loss_sum.weight), done
