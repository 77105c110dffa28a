"""Keeps bitsandbytes from being imported by a command that needs nothing of it, which takes seconds.

PEFT imports it whenever it is installed. Python refuses to import a module whose entry in `sys.modules` is None, and
PEFT then takes it as not installed. This is only for a process that runs one command and then ends: nothing in it can
be quantised later.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import ModuleType

    from ..models.settings import ModelSettings
    from ..recipe.recipe import Recipe

BITSANDBYTES = "bitsandbytes"


def leave_out_unused(recipe: Recipe) -> None:
    """Make bitsandbytes count as not installed, if neither the optimizer nor the model can need it."""
    from ..engine.optim.optimizers import FROM_BITSANDBYTES

    needed = recipe.train.optimizer in FROM_BITSANDBYTES or may_be_quantized(recipe.model)
    if not needed and BITSANDBYTES not in sys.modules:
        sys.modules[BITSANDBYTES] = cast("ModuleType", None)


def may_be_quantized(settings: ModelSettings) -> bool:
    """Return whether a model may have layers of bitsandbytes; True also if its config cannot be read yet."""
    from ..core.errors import WeitiaoError
    from ..models.aliases import ALIASES
    from ..models.load import load_config
    from ..models.precision import quantization_of

    if settings.quantization != "none":
        return True
    is_folder = Path(settings.name).expanduser().is_dir()  # it may have an alias's name, or end in .gguf
    if not is_folder and (settings.name in ALIASES or settings.name.endswith(".gguf")):
        return False
    try:
        return quantization_of(load_config(settings)) != "none"
    except WeitiaoError:  # the checks report it, together with everything else
        return True
