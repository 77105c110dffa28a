"""The `train:` block of a run file, joined from small settings classes that sit next to the code they configure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..core.settings import DECIDES_NOTHING, Settings, Unfit
from .checkpoint import CheckpointSettings
from .kernels.settings import KernelSettings
from .memory.activation_checkpointing import Recompute
from .optim.optimizers import OptimizerSettings
from .optim.schedules import ScheduleSettings


def _read_off(raw: object) -> object:
    """Accept False as `off`, since YAML parses the bare word so; reject True, YAML's reading of `on`."""
    if raw is True:
        expected = "auto (used where it pays) or off"
        raise Unfit("it cannot be switched on where it does not pay", expected, "train.frozen_cache=auto")
    return "off" if raw is False else raw


AutoOrOff = Annotated[Literal["auto", "off"], BeforeValidator(_read_off)]


def _read_never(raw: object) -> object:
    """Accept False (YAML's reading of a bare `off`) and None as `off`; reject True, which is no number."""
    if raw is True:
        expected = "a number of looks, auto or off"
        raise Unfit("it is no number of looks", expected, "train.early_stopping_patience=auto")
    return "off" if raw is False or raw is None else raw


Patience = Annotated[Annotated[int, Field(ge=1)] | Literal["auto", "off"], BeforeValidator(_read_never)]


class StepSettings(Settings):
    """How long a run is, what a step holds, and when it is looked at."""

    batch_size: int = Field(default=8, ge=1)
    """Examples an optimizer step sees; how they are cut to fit memory changes no result but by rounding and draws of
    dropout."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the data; a fraction is allowed. Left out, large data is seen once and small data some six times,
    until the held-out loss no longer falls."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps in all; set, it replaces epochs."""
    pack_tokens: Annotated[int | None, DECIDES_NOTHING] = Field(default=None, ge=1)
    """Tokens that go through the model at once, lowered where they do not fit; left out, what suits the device.
    Changes speed and memory, and with dropout what is drawn."""
    gradient_checkpointing: Annotated[Recompute, DECIDES_NOTHING] = "auto"
    """What is computed again in the backward pass, for less memory: none, elementwise (what activations and norms
    gave, for some 2 % more time), and for up to a third more the blocks: full (all), every-2 (each second), every-3,
    ...; auto takes none where whole packs fit, else the first of elementwise, every-2 and full in which the longest row
    does."""
    offload_activations: Annotated[bool, DECIDES_NOTHING] = False
    """Keep activations in the CPU's memory until the backward pass: less GPU memory, and slower."""
    frozen_cache: Annotated[AutoOrOff, DECIDES_NOTHING] = "auto"
    """Compute what blocks below all that trains give once and keep it on disk while the run lasts, where it pays."""
    neftune_alpha: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Noise on the input embeddings, alpha / sqrt(length * width); https://arxiv.org/abs/2310.05914."""
    seed: int = Field(default=42, ge=0, lt=2**31)
    """Order, split, initialisation and dropout follow from it."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between looks at the held-out loss; left out, at the end of each epoch, and several times in one that is
    the only one."""
    early_stopping_patience: Patience = "auto"
    """Stop after this many looks at the held-out loss without a gain; off, never; auto, after 2 where neither epochs
    nor steps are given and rows are held out, else never."""
    early_stopping_min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How much lower the held-out loss must be to count as a gain."""


class TrainSettings(StepSettings, OptimizerSettings, ScheduleSettings, KernelSettings, CheckpointSettings):
    """Everything under `train:`."""

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainSettings:
        if self.steps is not None and self.warmup_steps is not None and self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) is more than steps ({self.steps})")
        return self
