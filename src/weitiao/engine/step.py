"""One optimizer step: gradients summed over packs and ranks, divided once, checked, applied.

All packs are queued on the device without synchronising. Their losses and the gradient norm are read together, once a
step and before the update, so that no NaN or inf reaches the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from ..core.errors import NotFiniteError, Problem, ResourceError
from ..data.batching.packing import Pack
from ..data.example import Example
from ..methods._base import Attached
from ..objectives._base import LossSum, Objective, SequenceObjective
from .forward import Forward
from .memory.oom import MAY_SAY_SO, is_out_of_memory
from .optim.precision import Precision
from .runtime.distributed import Ranks
from .runtime.seeding import NO_PACK, seed_step
from .two_passes import FeatureGradients, Gathered, Reference, feature_gradients, need_two_passes

LARGEST_SCALE = 65536.0
STEPS_TO_DOUBLE_SCALE = 2000


@dataclass
class LossScale:
    """The loss scale that keeps fp16 gradients from underflowing; 1 for other types."""

    value: float = 1.0
    good_steps: int = 0
    largest: float = 1.0

    @classmethod
    def for_precision(cls, precision: Precision) -> LossScale:
        """Return a run's initial scale: the largest for fp16, 1 for everything else."""
        largest = LARGEST_SCALE if precision.needs_loss_scale else 1.0
        return cls(largest, largest=largest)

    def succeeded(self) -> None:
        """Count a finite step; every STEPS_TO_DOUBLE_SCALE steps the scale doubles, up to `largest`."""
        self.good_steps += 1
        if self.good_steps % STEPS_TO_DOUBLE_SCALE == 0:
            self.value = min(self.largest, 2 * self.value)

    def halve(self) -> bool:
        """Halve the scale; return False if it is already 1."""
        if self.value <= 1:
            return False
        self.good_steps = 0
        self.value = max(1.0, self.value / 2)
        return True


@dataclass(frozen=True)
class StepResult:
    """The numbers of one applied step."""

    loss: float
    """Summed loss / summed weight of the step, plus the method's penalty; 0 if it trains nothing."""
    grad_norm: float
    """Norm of all gradients before clipping."""
    tokens: int
    """Tokens of all the step's examples. Shared prefixes count once per example, and rows that train nothing count too,
    so fewer tokens go through the model."""
    lr: float
    """The learning rate of the step, without LoRA+'s factor."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The objective's metrics besides the loss (`Objective.metrics`), divided like the loss."""


@dataclass(frozen=True)
class Gradients:
    """Loss and gradient norm of a step; the parameters hold the gradients, summed over packs and ranks, not clipped."""

    loss: float
    """Summed loss / summed weight of the step, plus the method's penalty."""
    norm: float
    norm_tensor: Tensor
    """The norm on the device, to clip without synchronising again."""
    fits: bool
    """Whether memory sufficed on every rank; if not, the other fields are meaningless."""
    metrics: Mapping[str, float]
    """The objective's metrics besides the loss."""

    @property
    def finite(self) -> bool:
        """Whether neither loss nor norm is NaN or inf."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


@dataclass
class Stepper:
    """Applies optimizer steps to the trained parameters; never applies a step that is not finite."""

    attached: Attached
    forward: Forward
    objective: Objective
    parameters: dict[str, Parameter]
    optimizer: Optimizer
    max_grad_norm: float
    pack_tokens: int
    seed: int
    scale: LossScale
    reference: Reference | None = None
    """The model before training, for objectives that need a reference."""
    longest_row: int = 0
    """Tokens of the run's longest row; packs padded to one length must hold it."""
    ranks: Ranks = field(default_factory=Ranks.alone)

    def __post_init__(self) -> None:
        """Give every rank the same weights, as devices may round an initialisation differently, and the same token
        budget, as devices may differ in memory."""
        self.pack_tokens = max(self.ranks.least(self.pack_tokens), self._least_tokens)
        self.ranks.take_from_first(list(self.parameters.values()))

    def apply(self, examples: Sequence[Example], step: int) -> StepResult:
        """Make step number `step`; raises NotFiniteError, with unchanged weights, if loss or gradients are not finite.

        Out of memory on any rank halves the packs and redoes the step from unchanged weights and the same seeds, so the
        result is that of a step that started with the smaller packs. Raises ResourceError if packs cannot get smaller.
        The device is synchronised once, and once more each time the step is redone. A step whose examples train nothing
        changes nothing.
        """
        tokens = sum(example.tokens for example in examples)
        lr = float(self.optimizer.param_groups[0]["lr"])
        if not any(example.trained_tokens for example in examples) or not self.objective.weight(examples):
            return StepResult(loss=0.0, grad_norm=0.0, tokens=tokens, lr=lr)
        while True:
            found = self.gradients(examples, step)
            if not found.fits:
                self._halve_packs(examples)
                continue
            if found.finite:
                break
            if not (math.isfinite(found.loss) and self.scale.halve()):
                rows = self._rows_not_finite(examples, step)
                self.optimizer.zero_grad(set_to_none=True)
                raise NotFiniteError(not_finite_problem(step, found.loss, found.norm, rows))
        clip_grads_with_norm_(self._all_parameters, self.max_grad_norm or math.inf, found.norm_tensor)
        self.optimizer.step()
        self.attached.after_update(step)
        self.optimizer.zero_grad(set_to_none=True)
        self.scale.succeeded()
        return StepResult(found.loss, found.norm, tokens, lr, found.metrics)

    @property
    def _all_parameters(self) -> list[Parameter]:
        return list(self.parameters.values())

    @property
    def _least_tokens(self) -> int:
        """Lower bound of the token budget: packs padded to it share one shape, which must hold every row."""
        options = self.forward.options
        return self.longest_row if options.packs and options.compiles else 0

    def budget(self, examples: Sequence[Example]) -> int:
        """Return the token budget of a step's packs."""
        return max(self.ranks.budget(examples, self.pack_tokens), self._least_tokens)

    def _halve_packs(self, examples: Sequence[Example]) -> None:
        """Halve the packs' token budget; raises ResourceError if packs cannot get smaller."""
        longest = max((one for one in examples if one.trained_tokens), key=lambda one: one.longest)
        budget = self.budget(examples)
        if budget <= max(longest.longest, self._least_tokens):
            raise ResourceError(_too_little_memory(longest))
        self.pack_tokens = max(budget // 2, self._least_tokens)

    def gradients(self, examples: Sequence[Example], step: int) -> Gradients:
        """Compute the step's gradients into the parameters; synchronise once to read loss and norm."""
        self.optimizer.zero_grad(set_to_none=True)
        weight = self.objective.weight(examples)
        packs = self.forward.cut(examples, self.budget(examples))
        names = self.objective.metrics
        found = self._losses_if_they_fit(examples, packs, weight, step)
        lacking = torch.full((1,), float(found is None), device=self.forward.device)
        if found is None:
            self.optimizer.zero_grad(set_to_none=True)
            self.forward.free_memory()
            # The other ranks still wait for this one in the all-reduce, and learn there that memory was short.
            found = lacking.new_zeros(len(packs) + 1), lacking.new_zeros(len(names))
        losses, metrics = found
        had_N = self.ranks.sum_gradients(self._all_parameters, [losses, metrics, lacking])
        norm = self._norm()
        on_device = (norm[None].to(lacking), lacking, losses, metrics, had_N)
        sizes = [len(part) for part in on_device]
        (norm_read,), (ranks_lacking,), (*sums, penalty), told, had = _split(
            torch.cat(on_device).tolist(), sizes
        )
        for parameter, ranks_with_one in zip(self._all_parameters, had, strict=False):
            if not ranks_with_one:  # an optimizer skips None, but zeros would still be updated
                parameter.grad = None
        reported = {name: value / weight for name, value in zip(names, told, strict=True)}
        return Gradients(sum(sums) / weight + penalty, norm_read, norm, ranks_lacking == 0, reported)

    def _losses_if_they_fit(
        self, examples: Sequence[Example], packs: Sequence[Pack], weight: float, step: int
    ) -> tuple[Tensor, Tensor] | None:
        """Return the result of `_losses`, or None if memory runs out."""
        known = None
        if isinstance(self.objective, SequenceObjective) and need_two_passes(self.objective, packs):
            known = self._first_pass(self.objective, examples, packs, step)
            if known is None:
                return None
        try:
            return self._losses(packs, weight, step, known)
        except MAY_SAY_SO as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _losses(
        self, packs: Sequence[Pack], weight: float, step: int, known: FeatureGradients | None
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of this rank's packs to the parameters, without synchronising.

        Returns the summed loss of each pack and, last, the penalty (zero for packs of other ranks, and for the penalty
        on all but the first); and the sums of the objective's metrics. `known` is the result of a first pass, if any.
        """
        device = self.forward.device
        losses = [torch.zeros((), device=device)] * (len(packs) + 1)
        metrics = torch.zeros(len(self.objective.metrics), device=device)
        if known is not None and self.ranks.first:
            losses[0] = known.loss.sum
            metrics += self._metrics_of(known.loss)
        share = list(self.ranks.share(packs))
        coming = self.forward.ahead([pack for _, pack in share])
        for (index, _), pack in zip(share, coming, strict=True):
            if known is None:
                loss_sum = self._loss_of(pack, step, index)
                (loss_sum.sum * (self.scale.value / weight)).backward()  # type: ignore[no-untyped-call]
                losses[index] = loss_sum.sum.detach()
                metrics += self._metrics_of(loss_sum)
            else:
                seed_step(self.seed, step, index)
                part = known.surrogate(cast(SequenceObjective, self.objective), self.forward, pack)
                (part * (self.scale.value / weight)).backward()  # type: ignore[no-untyped-call]
        seed_step(self.seed, step, NO_PACK)
        penalty = self.attached.penalty()
        if penalty is not None and self.ranks.first:
            (penalty * self.scale.value).backward()  # type: ignore[no-untyped-call]
            losses[-1] = penalty.detach()
        return torch.stack([loss.to(device, torch.float32) for loss in losses]), metrics

    def _loss_of(self, pack: Pack, step: int, index: int) -> LossSum:
        """Return the loss of a pack that depends on no other pack."""
        reference = None
        if self.reference is not None and isinstance(self.objective, SequenceObjective):
            reference = self.reference.features(self.objective, pack)
        seed_step(self.seed, step, index)
        return self.objective.loss(self.forward.outputs(pack), reference)

    def _metrics_of(self, loss_sum: LossSum) -> Tensor:
        """Return the sums of the objective's metrics (len(metrics),)."""
        device = self.forward.device
        values = [loss_sum.metrics[name].detach() for name in self.objective.metrics]
        return (
            torch.stack([value.to(device, torch.float32) for value in values])
            if values
            else torch.zeros(0, device=device)
        )

    def _first_pass(
        self, objective: SequenceObjective, examples: Sequence[Example], packs: Sequence[Pack], step: int
    ) -> FeatureGradients | None:
        """Return the loss's gradients w.r.t. the features of all sequences; None if memory ran out on any rank.

        The seeds are those of the second pass, so both passes compute the same features.
        """
        own, referred = Gathered(examples), Gathered(examples)
        try:
            for index, pack in self.ranks.share(packs):
                if self.reference is not None:
                    referred.take(pack, self.reference.features(objective, pack))
                seed_step(self.seed, step, index)
                with torch.no_grad():
                    own.take(pack, objective.features(self.forward.outputs(pack)))
            lacks = False
        except MAY_SAY_SO as error:
            if not is_out_of_memory(error):
                raise
            lacks = True
        if self.ranks.any(lacks):  # a collective call on every rank, so that none hangs waiting for features
            return None
        reference = referred if self.reference is not None else None
        return feature_gradients(objective, examples, own, reference, self.ranks, self.forward.device)

    def _norm(self) -> Tensor:
        """Divide the gradients by the loss scale and return their norm, a scalar on the device."""
        gradients = [p.grad for p in self._all_parameters if p.grad is not None]
        if self.scale.value != 1:
            for gradient in gradients:
                gradient.div_(self.scale.value)
        return get_total_norm(gradients)

    def _rows_not_finite(self, examples: Sequence[Example], step: int) -> list[str]:
        """Return the places of rows whose own loss or gradients are not finite."""
        rows = filter(lambda one: one.trained_tokens, examples)
        return [row.place for row in rows if not self.gradients([row], step).finite]

    def weights_not_finite(self) -> list[str]:
        """Return the names of parameters that hold a NaN or inf; costs one reduction and one read if none does."""
        weights = [p.detach() for p in self._all_parameters]
        if math.isfinite(float(get_total_norm(weights, math.inf))):
            return []
        return [name for name, p in self.parameters.items() if not bool(torch.isfinite(p.detach()).all())]


def _split(values: list[float], sizes: Sequence[int]) -> list[list[float]]:
    """Split values into consecutive lists of the given sizes."""
    ends = list(accumulate(sizes))
    return [values[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _too_little_memory(longest: Example) -> Problem:
    return Problem(
        "one row alone does not fit into the device's memory",
        f"{longest.place}, {longest.longest} tokens",
        "memory for the forward and backward pass of the longest row",
        "a new run with train.gradient_checkpointing=full, a shorter data.max_length or model.quantization=nf4",
    )


def not_finite_problem(step: int, loss: float, norm: float, rows: Sequence[str]) -> Problem:
    """Describe a step that was not applied, with the places of the rows that cause it."""
    culprits = f"caused by the rows {', '.join(rows)}" if rows else "no single row of the step causes it"
    return Problem(
        f"step {step + 1} gave a loss or gradient that is not finite; it was not applied",
        f"loss {loss}, gradient norm {norm}; {culprits}",
        "finite numbers",
        "look at these rows, or start a new run with a lower train.lr; the last good state is saved",
    )
