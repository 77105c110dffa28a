"""Activation checkpointing: which decoder blocks recompute their activations in the backward pass.

A checkpointed block saves only its input; Chen et al., https://arxiv.org/abs/1604.06174. In the other blocks cheap
elementwise outputs are recomputed (engine/memory/rematerialize.py), unless the choice is `none`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from ...core.errors import ModelError, Problem
from ...core.settings import Unfit

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AUTO = "auto"
NAMED = (AUTO, "none", "elementwise", "full")
EVERY = re.compile(r"every-([1-9]\d*)")
CHOICES = "auto, none, elementwise, full, or every-2, every-3, ..."


def _checked(value: object) -> object:
    """Accept True and False, as in earlier run files, as `full` and `none`; reject unknown choices."""
    if isinstance(value, bool):
        return "full" if value else "none"
    every = EVERY.fullmatch(value) if isinstance(value, str) else None
    if value in NAMED or (every and int(every[1]) > 1):
        return value
    raise Unfit("there is no such choice", CHOICES, "train.gradient_checkpointing=auto")


Recompute = Annotated[str, BeforeValidator(_checked)]
"""`auto`, `none`, `elementwise`, `full`, or `every-n` with n >= 2: every n-th block is checkpointed."""

TRIED_BY_AUTO = ("none", "elementwise", "every-2", "full")
"""What `auto` tries, from the fastest to the one with the least memory."""


WITHOUT_BLOCKS = ("none", "elementwise")
"""The choices that checkpoint no block."""


def set_recompute(base: PreTrainedModel, choice: str) -> None:
    """Checkpoint every n-th block, or all; `none` and `elementwise` leave the model as it was loaded.

    Raises ModelError if the architecture does not support checkpointing.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    if choice in WITHOUT_BLOCKS:
        return
    if not base.supports_gradient_checkpointing:
        raise ModelError(_has_no_way(base, choice))
    base.gradient_checkpointing_enable({"use_reentrant": False})
    # Non-reentrant checkpointing works with inputs that need no gradient. Requiring their gradients would run the
    # backward pass through frozen blocks below the first trained parameter too.
    base.disable_input_require_grads()
    every = EVERY.fullmatch(choice)
    step = int(every[1]) if every else 1
    blocks = [module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)]
    for number, block in enumerate(blocks):
        block.gradient_checkpointing = number % step == 0


def _has_no_way(base: PreTrainedModel, choice: str) -> Problem:
    got = f"train.gradient_checkpointing: {choice}, {type(base).__name__}"
    what = "this architecture has no activation checkpointing"
    return Problem(what, got, "none", "train.gradient_checkpointing=none")
