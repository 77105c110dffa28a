"""The held-out loss: the loss on rows that are not trained on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..core.errors import DataError, Problem
from ..data.batching.packing import Pack, Part, pack_of
from ..data.example import Example
from ..engine.forward import Forward
from ..engine.two_passes import Gathered, Reference
from ..objectives._base import LossSum, Objective, SequenceObjective
from ..objectives._outputs import Outputs
from .callbacks import OnProgress, ShouldStop, ignore_progress, never_stop

EXAMPLES_AT_ONCE = 64
PLACES_SHOWN = 3
"""Most places that an error names."""


@dataclass(frozen=True)
class HeldOut:
    """The result of one evaluation of the held-out examples."""

    loss: float
    """Summed loss over summed weight of all examples."""
    rows: tuple[tuple[float, float], ...] = ()
    """Each example's summed loss and weight, in the examples' order."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Other measures of the objective, such as the perplexity."""

    def as_fields(self) -> dict[str, float]:
        """Return the loss and the other measures as fields of an event."""
        return {"loss": self.loss, **self.measures}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> HeldOut:
        """Build it from the fields of an event, with or without its rows."""
        measures = {name: value for name, value in fields.items() if name not in ("loss", "rows")}
        rows = tuple((loss, weight) for loss, weight in fields.get("rows", ()))
        return cls(fields["loss"], rows, measures)


@torch.no_grad()
def measure_held_out(
    forward: Forward,
    objective: Objective,
    examples: Sequence[Example],
    pack_tokens: int,
    should_stop: ShouldStop = never_stop,
    on_progress: OnProgress = ignore_progress,
    reference: Reference | None = None,
) -> HeldOut | None:
    """Return the held-out loss in evaluation mode, or None if `should_stop` returned True between two examples.

    `on_progress` is called after each example with the number done and the total. Raises DataError if no token of the
    examples is trained.
    """
    look = _Look(forward, objective, reference)
    was_training = forward.model.training
    forward.model.eval()
    rows = [(0.0, 0.0)] * len(examples)
    sums: Counter[str] = Counter()
    try:
        for count, (number, found) in enumerate(_losses(look, examples, pack_tokens), 1):
            if should_stop():
                return None
            rows[number] = (float(found.sum), objective.weight([examples[number]]))
            sums.update({name: float(value) for name, value in found.metrics.items()})
            on_progress(count, len(examples))
    finally:
        forward.model.train(was_training)
    total, weight = math.fsum(loss for loss, _ in rows), math.fsum(weight for _, weight in rows)
    if not weight:
        raise DataError(_nothing_to_measure(examples))
    measures = {name: sums[name] / weight for name in objective.metrics}
    return HeldOut(total / weight, tuple(rows), {**objective.report(total / weight), **measures})


def _nothing_to_measure(examples: Sequence[Example]) -> Problem:
    places = ", ".join(example.place for example in islice(examples, PLACES_SHOWN))
    return Problem(
        "there is no loss to measure: no token of these examples is trained",
        f"{len(examples)} examples, {places or 'none'}",
        "at least one trained token after the first",
        "data.held_out=10, or another data.held_out_path",
    )


def _losses(look: _Look, examples: Sequence[Example], pack_tokens: int) -> Iterator[tuple[int, LossSum]]:
    """Yield each example's number and summed loss."""
    for start in range(0, len(examples), EXAMPLES_AT_ONCE):
        some = list(examples[start : start + EXAMPLES_AT_ONCE])
        for number, loss_sum in look.losses(some, pack_tokens):
            yield start + number, loss_sum


@dataclass(frozen=True)
class _Look:
    """A model and the objective that evaluates it."""

    forward: Forward
    objective: Objective
    reference: Reference | None

    def losses(self, examples: Sequence[Example], pack_tokens: int) -> Iterator[tuple[int, LossSum]]:
        """Yield the number and the summed loss of each example with trained tokens."""
        packs = self.forward.ahead(self.forward.cut(examples, pack_tokens))
        if not isinstance(self.objective, SequenceObjective):
            return self._by_target(examples, packs)
        return self._by_sequence(self.objective, examples, packs)

    def _by_target(self, examples: Sequence[Example], packs: Iterable[Pack]) -> Iterator[tuple[int, LossSum]]:
        """Sum, for each example, the losses of its sequences, which may be in several packs."""
        found: dict[int, list[LossSum]] = {}
        seen: Counter[int] = Counter()
        for pack in packs:
            outputs = self.forward.outputs(pack)
            for number, at in enumerate(pack.numbers):
                own = outputs_of(outputs, number)
                found.setdefault(at, []).append(self.objective.loss(own))
                seen[at] += len(own.pack.sequences)
                if seen[at] == len(examples[at].sequences):
                    yield at, _added(found.pop(at))

    def _by_sequence(
        self, objective: SequenceObjective, examples: Sequence[Example], packs: Iterable[Pack]
    ) -> Iterator[tuple[int, LossSum]]:
        """Collect the features of all sequences, then yield the loss of each example."""
        own, referred = Gathered(examples), Gathered(examples)
        for pack in packs:
            own.take(pack, objective.features(self.forward.outputs(pack)))
            if self.reference is not None:
                referred.take(pack, self.reference.features(objective, pack))
        together = [own.examples] if objective.couples == "step" else [[at] for at in own.examples]
        for numbers in together:
            some = [examples[at] for at in numbers]
            reference = referred.of(numbers) if self.reference is not None else None
            loss_sum = objective.feature_loss(own.of(numbers), some, reference)
            for at in numbers:  # a loss of all examples together is split equally
                yield at, _divided(loss_sum, len(numbers))


def _added(parts: Sequence[LossSum]) -> LossSum:
    """Return the sum of an example's parts."""
    if len(parts) == 1:
        return parts[0]
    metrics = {name: torch.stack([part.metrics[name] for part in parts]).sum() for name in parts[0].metrics}
    return LossSum(torch.stack([part.sum for part in parts]).sum(), metrics)


def _divided(loss_sum: LossSum, count: int) -> LossSum:
    metrics = {name: value / count for name, value in loss_sum.metrics.items()}
    return LossSum(loss_sum.sum / count, metrics)


def outputs_of(outputs: Outputs, number: int) -> Outputs:
    """Return the model's outputs for one example of a pack, in the form of a pack of its own."""
    pack = outputs.pack
    own_sequences = [at for at, (example, _) in enumerate(pack.owners) if example == number]
    example = pack.examples[number]
    own = pack_of([Part(example, pack.owners[at][1], 0) for at in own_sequences])
    rows_T = np.zeros(len(own.ids_T), np.int64)
    by_number = {pack.owners[at][1]: pack.rows[at] for at in own_sequences}
    for (_, which), rows in zip(own.owners, own.rows, strict=True):
        rows_T[rows] = by_number[which]
    positions = np.searchsorted(pack.kept_P, rows_T[own.kept_P])
    device = outputs.hidden_PD.device
    return Outputs(
        hidden_PD=outputs.hidden_PD[torch.from_numpy(positions).to(device)],
        head=outputs.head,
        rows_K=torch.from_numpy(own.rows_K).to(device),
        targets_K=torch.from_numpy(own.targets_K).to(device),
        weights_K=torch.from_numpy(own.weights_K).to(device),
        pack=own,
    )
