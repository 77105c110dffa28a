"""One optimizer step: gradients summed over packs, divided once, checked, applied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from ..core.errors import NotFiniteError, Problem, ResourceError
from ..data.conversation import Example
from ..methods._base import Attached
from ..objectives._base import Objective
from .forward import Forward
from .precision import Precision
from .randomness import seed_step

LARGEST_SCALE = 65536.0
STEPS_TO_DOUBLE_SCALE = 2000


@dataclass
class LossScale:
    """What the loss is multiplied by before the backward pass, so that fp16 gradients do not vanish; 1 elsewhere."""

    value: float = 1.0
    good_steps: int = 0
    largest: float = 1.0

    @classmethod
    def for_precision(cls, precision: Precision) -> LossScale:
        """Return the scale a run begins with: the largest for fp16, 1 for everything else."""
        largest = LARGEST_SCALE if precision.needs_loss_scale else 1.0
        return cls(largest, largest=largest)

    def succeeded(self) -> None:
        """Count a finite step; after many the scale of fp16 is tried higher."""
        self.good_steps += 1
        if self.good_steps % STEPS_TO_DOUBLE_SCALE == 0:
            self.value = min(self.largest, 2 * self.value)

    def halve(self) -> bool:
        """Halve the scale; tell whether there was anything to halve."""
        if self.value <= 1:
            return False
        self.good_steps = 0
        self.value = max(1.0, self.value / 2)
        return True


@dataclass(frozen=True)
class StepResult:
    """What one applied step gave."""

    loss: float
    """Summed loss over summed weight of the step."""
    grad_norm: float
    """Norm of all gradients before clipping."""
    tokens: int
    """Tokens that went through the model."""


@dataclass
class Stepper:
    """Applies steps to the trained parameters; nothing that is not finite is ever applied."""

    attached: Attached
    forward: Forward
    objective: Objective
    parameters: dict[str, Parameter]
    optimizer: Optimizer
    max_grad_norm: float
    pack_tokens: int
    seed: int
    scale: LossScale

    def apply(self, examples: Sequence[Example], step: int) -> StepResult:
        """Make step number `step`; raises NotFiniteError, with the weights as before, where anything is not finite.

        Too little memory halves the packs and redoes the step from unchanged weights with the same random draws, so
        the result is that of a run that started with the smaller packs. Raises ResourceError where no pack can be
        smaller.
        """
        while True:
            loss = self._gradients_if_they_fit(examples, step)
            if loss is None:
                self._halve_packs(examples)
                continue
            norm = self._norm_and_clip()
            if math.isfinite(loss) and math.isfinite(norm):
                break
            if not (math.isfinite(loss) and self.scale.halve()):
                rows = self._rows_not_finite(examples, step)
                self.optimizer.zero_grad(set_to_none=True)
                raise NotFiniteError(_not_finite(step, loss, norm, rows))
        self.optimizer.step()
        self.attached.after_update(step)
        self.optimizer.zero_grad(set_to_none=True)
        self.scale.succeeded()
        return StepResult(loss, norm, sum(len(example.ids) for example in examples))

    def _gradients_if_they_fit(self, examples: Sequence[Example], step: int) -> float | None:
        """Return what `_gradients` does, or None where memory did not suffice."""
        try:
            return self._gradients(examples, step)
        except torch.OutOfMemoryError:
            return None

    def _halve_packs(self, examples: Sequence[Example]) -> None:
        """Halve the token budget of packs; raises ResourceError where every example is a pack of its own already."""
        self.optimizer.zero_grad(set_to_none=True)
        self.forward.free_memory()
        longest = max(examples, key=lambda example: len(example.ids))
        if self.pack_tokens <= len(longest.ids):
            raise ResourceError(_too_little_memory(longest))
        self.pack_tokens //= 2

    def _gradients(self, examples: Sequence[Example], step: int) -> float:
        """Leave the step's gradients on the parameters and return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        seed_step(self.seed, step)
        weight = sum(example.loss_weight for example in examples)
        total = 0.0
        for pack in self.forward.ahead(self.forward.cut(examples, self.pack_tokens)):
            loss_sum = self.objective.loss(self.forward.outputs(pack)).sum
            (loss_sum * (self.scale.value / weight)).backward()  # type: ignore[no-untyped-call]
            total += float(loss_sum.detach())
        return total / weight + self._penalty()

    def _penalty(self) -> float:
        """Add the gradients of what the method asks for besides the objective, and return it."""
        penalty = self.attached.penalty()
        if penalty is None:
            return 0.0
        (penalty * self.scale.value).backward()  # type: ignore[no-untyped-call]
        return float(penalty.detach())

    def _norm_and_clip(self) -> float:
        """Return the gradients' norm, unscaled, and shorten them to `max_grad_norm`."""
        parameters = list(self.parameters.values())
        if self.scale.value != 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.scale.value)
        return float(clip_grad_norm_(parameters, self.max_grad_norm or math.inf))

    def _rows_not_finite(self, examples: Sequence[Example], step: int) -> list[str]:
        """Return where the rows stand whose loss or gradients are not finite on their own."""
        rows = []
        for example in filter(lambda one: one.trained_tokens, examples):
            if not math.isfinite(self._gradients([example], step)) or not math.isfinite(
                self._norm_and_clip()
            ):
                rows.append(example.place)
        return rows

    def weights_not_finite(self) -> list[str]:
        """Return the names of parameters that hold a NaN or inf."""
        return [name for name, p in self.parameters.items() if not bool(torch.isfinite(p.detach()).all())]


def _too_little_memory(longest: Example) -> Problem:
    return Problem(
        "one row alone does not fit into the device's memory",
        f"{longest.place}, {len(longest.ids)} tokens",
        "memory for the longest row, forward and backward",
        "a new run with train.gradient_checkpointing=full, a shorter data.max_length or model.quantization=nf4",
    )


def _not_finite(step: int, loss: float, norm: float, rows: Sequence[str]) -> Problem:
    culprits = "the rows " + ", ".join(rows) if rows else "no row of the step does it alone"
    return Problem(
        f"step {step + 1} gave a loss or gradient that is not finite; it was not applied",
        f"loss {loss}, gradient norm {norm}; {culprits}",
        "finite numbers",
        "look at these rows, or start a new run with a lower train.lr; the last good state is saved",
    )
