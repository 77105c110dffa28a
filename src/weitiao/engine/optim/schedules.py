"""Learning-rate schedules: transformers' own, with warmup in steps or as a ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from ...core.errors import Problem, SettingsError
from ...core.settings import Settings

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

SchedulerName = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
]


FOLLOW_HELD_OUT: frozenset[SchedulerName] = frozenset({"reduce_lr_on_plateau", "greedy"})
"""Schedules that depend on the held-out loss."""


WITHOUT_WARMUP: frozenset[SchedulerName] = frozenset({"constant", *FOLLOW_HELD_OUT})
"""Schedules of transformers that ignore the warmup they are given."""


USUAL_WARMUP = 0.1
"""The default warmup as a share of all steps."""


class ScheduleSettings(Settings):
    """How the learning rate moves over a run."""

    scheduler: SchedulerName = "cosine"
    """Learning-rate schedule, by its name in transformers."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the learning rate rises from 0; set this or warmup_ratio."""
    warmup_ratio: float | None = Field(default=None, ge=0, lt=1)
    """The same as a share of all steps; 0.1 if neither is set and the schedule has a warmup."""
    scheduler_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the schedule, for example {num_decay_steps: 100} or {min_lr_rate: 0.1}."""

    @model_validator(mode="after")
    def _one_warmup(self) -> ScheduleSettings:
        if self.warmup_steps is not None and self.warmup_ratio:
            raise ValueError("warmup_steps and warmup_ratio are both set; choose one")
        return self

    def warmup(self, steps: int) -> int:
        """Return the warmup in steps for a run of `steps` steps."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        usual = 0.0 if self.scheduler in WITHOUT_WARMUP else USUAL_WARMUP
        return round((usual if self.warmup_ratio is None else self.warmup_ratio) * steps)


def warmup_notes(settings: ScheduleSettings, steps: int) -> list[str]:
    """Return warnings about the warmup of a run of `steps` steps, to show before it begins."""
    warmup = settings.warmup(steps)
    if warmup and settings.scheduler in WITHOUT_WARMUP:
        other = "; constant_with_warmup has one" if settings.scheduler == "constant" else ""
        return [f"the schedule {settings.scheduler} has no warmup, so train.warmup_* changes nothing{other}"]
    if not warmup or warmup < steps - 1:
        return []
    highest = max(shares_of_lr(settings, steps))
    what = f"the warmup takes {min(warmup, steps)} of the run's {steps} steps"
    if highest == 0:
        return [f"{what}, and in each the learning rate is 0: nothing will be trained"]
    if highest < 1:
        return [f"{what}, so the learning rate reaches only {highest:.0%} of train.lr"]
    return [f"{what}, so only the last one has the full learning rate"]


def shares_of_lr(settings: ScheduleSettings, steps: int) -> list[float]:
    """Return each step's learning rate as a share of train.lr; only for schedules that ignore the held-out loss."""
    from torch import zeros
    from torch.nn import Parameter
    from torch.optim import SGD

    optimizer = SGD([Parameter(zeros(1))], lr=1.0)
    schedule = build_schedule(optimizer, settings, steps)
    shares = []
    for _ in range(steps):
        shares.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return shares


def build_schedule(optimizer: Optimizer, settings: ScheduleSettings, steps: int) -> LRScheduler:
    """Build the schedule; raises SettingsError if it does not accept `scheduler_args`."""
    from transformers import get_scheduler

    try:
        schedule = get_scheduler(
            settings.scheduler,
            optimizer,
            settings.warmup(steps),
            steps,
            dict(settings.scheduler_args) or None,
        )
    except (TypeError, ValueError) as error:
        raise SettingsError(
            Problem(
                f"the schedule {settings.scheduler} does not accept these arguments: {error}",
                f"train.scheduler_args: {settings.scheduler_args}",
                f"the arguments of transformers' {settings.scheduler} schedule",
            )
        ) from error
    return schedule  # type: ignore[no-any-return]


def follows_held_out_loss(schedule: object) -> bool:
    """Return whether a schedule steps after each evaluation on the held-out set instead of at every step."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from transformers.optimization import GreedyLR

    return isinstance(schedule, ReduceLROnPlateau | GreedyLR)
