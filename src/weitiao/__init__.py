"""weitiao (微调): fine-tune a language model on your own data, on the hardware you have.

import weitiao
run = weitiao.train(model="smollm2-135m", data="my.json", method="lora", out="runs/mine", r=16, steps=100)
print(run.generate("Who are you?"), run.adapter_path)
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

from .core.version import VERSION

if TYPE_CHECKING:
    from .methods._peft.register import register as register
    from .recipe.answering import Model as Model
    from .recipe.answering import open_model as open_model
    from .recipe.api import resume as resume
    from .recipe.api import train as train
    from .recipe.recipe import Recipe as Recipe
    from .recipe.run import Run as Run
    from .recipe.run import open_run as open_run

__version__ = VERSION

# libgomp's threads wait for each other by spinning. With the default, long spin they are ten times slower as soon as
# another program (a browser, say) wants a core; spinning briefly and then sleeping avoids that and costs nothing
# otherwise. libgomp reads the variable when torch is loaded, so it has no effect if torch was imported before weitiao.
# A value already set is kept.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_HOMES = {
    "train": "weitiao.recipe.api",
    "Recipe": "weitiao.recipe.recipe",
    "Run": "weitiao.recipe.run",
    "open_run": "weitiao.recipe.run",
    "resume": "weitiao.recipe.api",
    "open_model": "weitiao.recipe.answering",
    "Model": "weitiao.recipe.answering",
    "register": "weitiao.methods._peft.register",
}
"""The module of each public name. It is imported at first use, so that `import weitiao` is fast."""

__all__ = ["Model", "Recipe", "Run", "__version__", "open_model", "open_run", "register", "resume", "train"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for; raises AttributeError."""
    if name not in _HOMES:
        raise AttributeError(f"module 'weitiao' has no attribute {name!r}")
    with warnings.catch_warnings():
        # tqdm warns in a notebook without widgets when a library first imports it; its bars are not used.
        warnings.filterwarnings("ignore", "IProgress not found")
        value: object = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
