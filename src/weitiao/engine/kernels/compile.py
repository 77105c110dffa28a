"""Optional torch.compile: each block is compiled in place, so that parameter names do not change.

All blocks run the same code, so the code compiled for the first serves all of them, as long as shapes stay the same;
https://docs.pytorch.org/tutorials/recipes/regional_compilation.html. Attention is excluded from the graphs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from shutil import which

import torch
from torch import nn
from transformers import PreTrainedModel

from ...core.errors import Problem, ResourceError
from ...models.anatomy import anatomy, checkpoints_activations

CPP_COMPILERS = ("g++", "clang++", "c++", "cl")
"""Compilers torch.compile can use for its CPU kernels."""
C_COMPILERS = ("gcc", "clang", "cc", "cl")
"""Compilers Triton can use for the functions that launch its GPU kernels."""


def parts_to_compile(base: PreTrainedModel) -> list[nn.Module]:
    """Return the decoder blocks of a model, or their submodules under activation checkpointing.

    A block checkpointed by transformers has a graph break inside the checkpoint, and torch then compiles none of it.
    """
    blocks = [base.get_submodule(path) for path in anatomy(base).blocks]
    if not checkpoints_activations(base):
        return blocks
    return [part for block in blocks for part in block.children()]


@contextmanager
def compiled_blocks(parts: Sequence[nn.Module], backend: str = "inductor") -> Iterator[None]:
    """Within the context, these modules run compiled for fixed shapes; not for generation, which has many."""
    before = [part._compiled_call_impl for part in parts]
    for part, was in zip(parts, before, strict=True):
        if was is None:
            part.compile(dynamic=False, backend=backend)
    try:
        yield
    finally:
        for part, was in zip(parts, before, strict=True):
            part._compiled_call_impl = was  # nn.Module.compile has no public way back


def require_compiler(device: torch.device) -> None:
    """Raise ResourceError if this machine lacks what torch.compile needs to build kernels for a device."""
    on_gpu = device.type == "cuda"
    if on_gpu and find_spec("triton") is None:
        raise ResourceError(
            _cannot("triton, which compiles GPU kernels, is not installed", "pip install triton")
        )
    known = C_COMPILERS if on_gpu else CPP_COMPILERS
    chosen = os.environ.get("CC" if on_gpu else "CXX")
    if not any(which(name) for name in ((chosen,) if chosen else known)):
        kind = "C" if on_gpu else "C++"
        found = f"{chosen}, which does not exist" if chosen else f"none of {', '.join(known)} in PATH"
        raise ResourceError(
            _cannot(f"no {kind} compiler: {found}", f"install one (Debian, Ubuntu: apt install {known[0]})")
        )


def _cannot(got: str, remedy: str) -> Problem:
    return Problem(
        "train.compile=true needs a compiler, and none was found",
        got,
        "a compiler on this machine",
        f"{remedy}, or train.compile=false",
    )
