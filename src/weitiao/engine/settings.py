"""The `train:` block of a run file: small blocks that lie beside the code they set, under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ..core.settings import Settings
from .checkpoint import CheckpointSettings
from .kernels import KernelSettings
from .optimizers import OptimizerSettings
from .recompute import Recompute
from .schedules import ScheduleSettings


class StepSettings(Settings):
    """How long a run is, what a step holds, and when it is looked at."""

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "per_device_train_batch_size": "batch_size",
        "gradient_accumulation_steps": "batch_size",
        "num_train_epochs": "epochs",
        "max_steps": "steps",
        "eval_steps": "eval_every",
        "activation_checkpointing": "gradient_checkpointing",
        "neftune_noise_alpha": "neftune_alpha",
        "early_stopping": "early_stopping_patience",
    }

    batch_size: int = Field(default=8, ge=1)
    """Examples an optimizer step sees; how they are cut to fit memory changes no result."""
    epochs: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    """Passes over the data; a fraction is allowed."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps in all; set, it replaces epochs."""
    pack_tokens: int | None = Field(default=None, ge=1)
    """Tokens that go through the model at once, lowered where they do not fit; left out, what suits the device.
    Changes speed and memory only."""
    gradient_checkpointing: Recompute = "auto"
    """Blocks whose activations are computed again in the backward pass, for less memory and up to a third more time:
    none, full (all), every-2 (each second), every-3, ...; auto takes the first of none, every-2 and full in which
    the longest row fits."""
    offload_activations: bool = False
    """Keep activations in the CPU's memory until the backward pass: less GPU memory, and slower."""
    frozen_cache: Literal["auto", "off"] = "auto"
    """Compute what blocks below all that trains give once and keep it on disk while the run lasts, where it pays."""
    neftune_alpha: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Noise on the input embeddings, alpha / sqrt(length * width); https://arxiv.org/abs/2310.05914."""
    seed: int = Field(default=42, ge=0, lt=2**31)
    """Order, split, initialisation and dropout follow from it."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between looks at the held-out loss; left out, at the end of each epoch."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Stop after this many looks at the held-out loss without a gain; left out, never."""
    early_stopping_min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How much lower the held-out loss must be to count as a gain."""


class TrainSettings(StepSettings, OptimizerSettings, ScheduleSettings, KernelSettings, CheckpointSettings):
    """Everything under `train:`."""

    known_elsewhere: ClassVar[Mapping[str, str]] = {
        **StepSettings.known_elsewhere,
        **OptimizerSettings.known_elsewhere,
        **ScheduleSettings.known_elsewhere,
        **KernelSettings.known_elsewhere,
        **CheckpointSettings.known_elsewhere,
    }

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainSettings:
        if self.steps is not None and self.warmup_steps is not None and self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) is more than steps ({self.steps})")
        return self
