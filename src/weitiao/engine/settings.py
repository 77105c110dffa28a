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
        expected = "auto (used if it saves time) or off"
        raise Unfit("it cannot be forced on", expected, "train.frozen_cache=auto")
    return "off" if raw is False else raw


AutoOrOff = Annotated[Literal["auto", "off"], BeforeValidator(_read_off)]


def _read_never(raw: object) -> object:
    """Accept False (YAML's reading of a bare `off`) and None as `off`; reject True, which is no number."""
    if raw is True:
        expected = "a number of measurements, auto or off"
        raise Unfit("it is not a number of measurements", expected, "train.early_stopping_patience=auto")
    return "off" if raw is False or raw is None else raw


Patience = Annotated[Annotated[int, Field(ge=1)] | Literal["auto", "off"], BeforeValidator(_read_never)]


class StepSettings(Settings):
    """How long a run is, what a step holds, and when it is looked at."""

    batch_size: int = Field(default=8, ge=1)
    """Examples in an optimizer step. How a step is split to fit into memory changes the result only by rounding
    and by the random draws of dropout."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the data; fractions are allowed. Default: once for large data, up to about six times for small
    data, until the held-out loss no longer falls."""
    steps: int | None = Field(default=None, ge=1)
    """Total number of optimizer steps; replaces epochs."""
    pack_tokens: Annotated[int | None, DECIDES_NOTHING] = Field(default=None, ge=1)
    """Tokens in a forward pass, lowered if they do not fit into memory. Default: chosen for the device. Changes
    speed and memory use, and with dropout the random draws."""
    gradient_checkpointing: Annotated[Recompute, DECIDES_NOTHING] = "auto"
    """What to recompute in the backward pass to save memory: none, elementwise (outputs of activation functions
    and norms, about 2 % more time), or whole blocks, for up to a third more time: full (all), every-2 (every
    second), every-3, ... auto: none if whole packs fit, otherwise the first of elementwise, every-2 and full
    with which the longest row fits."""
    offload_activations: Annotated[bool, DECIDES_NOTHING] = False
    """Keep activations in CPU memory until the backward pass: less GPU memory, but slower."""
    frozen_cache: Annotated[AutoOrOff, DECIDES_NOTHING] = "auto"
    """Compute the outputs of the frozen blocks below the first trained one only once and keep them on disk
    during the run, if that saves time."""
    neftune_alpha: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """NEFTune: noise on the input embeddings, scaled by alpha / sqrt(length * width);
    https://arxiv.org/abs/2310.05914."""
    seed: int = Field(default=42, ge=0, lt=2**31)
    """Seed of the order of rows, the held-out split, initialisation and dropout."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between measurements of the held-out loss. Default: at the end of each epoch, several times if there
    is only one."""
    early_stopping_patience: Patience = "auto"
    """Stop after this many measurements of the held-out loss without improvement. off: never; auto: after 2 if
    neither epochs nor steps are given and rows are held out, otherwise never."""
    early_stopping_min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Smallest decrease of the held-out loss that counts as an improvement."""


class TrainSettings(StepSettings, OptimizerSettings, ScheduleSettings, KernelSettings, CheckpointSettings):
    """Everything under `train:`."""

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainSettings:
        if self.steps is not None and self.warmup_steps is not None and self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) is more than steps ({self.steps})")
        return self
