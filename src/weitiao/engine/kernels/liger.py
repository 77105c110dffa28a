"""Liger's fused RMSNorm and SwiGLU in one model's blocks; https://github.com/linkedin/Liger-Kernel (0.8).

Modules of this model are replaced by Liger's, with the same weights and names. Liger's
`_apply_liger_kernel_to_instance` is not used: it also patches classes and the rotary embedding in transformers'
modules, which affects every other model of the process. Liger's losses are not used either: the engine has its own.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel


def use_liger(model: PreTrainedModel) -> None:
    """Replace the norms and MLPs of a model of a supported architecture, before a method is attached."""
    for path, module in list(model.named_modules()):
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            model.set_submodule(path, _norm(module))
        elif kind.endswith("MLP"):
            model.set_submodule(path, _mlp(module))


def _norm(old: nn.Module) -> nn.Module:
    from liger_kernel.transformers.rms_norm import LigerRMSNorm

    weight = old.get_parameter("weight")
    with torch.device("meta"):
        # Not in place: a method may add to a norm's output, and an in-place backward overwrites the shared gradient.
        norm: nn.Module = LigerRMSNorm(len(weight), eps=old.variance_epsilon, in_place=False)
    norm.register_parameter("weight", weight)
    return norm.train(old.training)


def _mlp(old: nn.Module) -> nn.Module:
    from liger_kernel.transformers.swiglu import LigerSwiGLUMLP

    with torch.device("meta"):
        mlp: nn.Module = LigerSwiGLUMLP(old.config)
    for name in ("gate_proj", "up_proj", "down_proj"):
        mlp.add_module(name, old.get_submodule(name))
    return mlp.train(old.training)
