"""The held-out loss and its perplexity: what the model makes of answers it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..core.errors import DataError, Problem
from ..data.batching.packing import Pack
from ..data.conversation import Example
from ..engine.forward import Forward
from ..objectives._base import Objective, Outputs

EXAMPLES_AT_ONCE = 64
PLACES_SHOWN = 3
"""How many places an error names."""

ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class HeldOut:
    """What a look at the held-out examples gave."""

    loss: float
    """Summed loss over summed weight of all examples, in nats a trained token."""
    rows: tuple[tuple[float, float], ...] = ()
    """Each example's summed loss and weight, in the examples' order."""

    @property
    def perplexity(self) -> float:
        """exp(loss): among how many equally likely tokens the model wavers."""
        return math.exp(min(self.loss, 700.0))

    def as_fields(self) -> dict[str, float]:
        """Return loss and perplexity as fields of an event."""
        return {"loss": self.loss, "perplexity": self.perplexity}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> HeldOut:
        """Return what `as_fields` and the rows beside it were made from."""
        return cls(fields["loss"], tuple((loss, weight) for loss, weight in fields.get("rows", ())))


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
    rows = [(0.0, 0.0)] * len(examples)
    try:
        for count, (place, loss, weight) in enumerate(_losses(forward, objective, examples, pack_tokens), 1):
            if should_stop():
                return None
            rows[place] = (loss, weight)
            if on_progress is not None:
                on_progress(count, len(examples))
    finally:
        forward.model.train(was_training)
    total, weight = math.fsum(loss for loss, _ in rows), math.fsum(weight for _, weight in rows)
    if not weight:
        raise DataError(_nothing_to_measure(examples))
    return HeldOut(total / weight, tuple(rows))


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
) -> Iterator[tuple[int, float, float]]:
    """Yield each example's number, summed loss and weight."""
    for start in range(0, len(examples), EXAMPLES_AT_ONCE):
        some = list(examples[start : start + EXAMPLES_AT_ONCE])
        numbers: dict[int, list[int]] = {}
        for n, example in enumerate(some):
            numbers.setdefault(id(example), []).append(start + n)
        for pack in forward.ahead(forward.cut(some, pack_tokens)):
            outputs = forward.outputs(pack)
            for n, example in enumerate(pack.examples):
                loss_sum = objective.loss(_outputs_of(pack, n, outputs))
                yield numbers[id(example)].pop(), float(loss_sum.sum), float(loss_sum.weight)


def _outputs_of(pack: Pack, n: int, outputs: Outputs) -> Outputs:
    """Return what the model gave for one example of a pack, also where it shares its beginning with others."""
    example = pack.examples[n]
    weights = np.asarray(example.weights, dtype=np.float32)
    trained = np.flatnonzero(weights[1:]) + 1  # nothing comes before the first token, so it has no prediction
    positions = np.searchsorted(pack.kept_P, pack.rows[n][trained - 1])
    device = outputs.hidden_PD.device
    return replace(
        outputs,
        hidden_PD=outputs.hidden_PD[torch.from_numpy(positions).to(device)],
        rows_K=torch.arange(len(trained), device=device),
        targets_K=torch.from_numpy(np.asarray(example.ids)[trained]).to(device),
        weights_K=torch.from_numpy(weights[trained]).to(device),
    )
