"""What the probe and the memory measurement find for a kind of model, used again for the next model of that kind.

Both take three quarters of the time in which a tiny training is put together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from weitiao.core.events import EventLog
from weitiao.data.example import Example
from weitiao.engine.attention import backends
from weitiao.engine.forward import Forward, ForwardOptions
from weitiao.engine.kernels.matmul import onednn_in_use
from weitiao.engine.memory.budget import measure_growth
from weitiao.engine.memory.live_bytes import Growth
from weitiao.engine.optim.precision import Precision
from weitiao.methods._base import Attached
from weitiao.models.anatomy import base_of
from weitiao.objectives._base import Objective
from weitiao.recipe.build import forward_for

if TYPE_CHECKING:
    from torch import nn
    from torch.nn import Parameter

_PACKED: dict[Hashable, ForwardOptions] = {}
_GROWTHS: dict[Hashable, Growth] = {}


def forward_of(attached: Attached, precision: Precision, log: EventLog) -> Forward:
    """Return what `forward_for` does; a model like an earlier one that supports packing is not probed again."""
    kind = (_kind(attached.model), attached.packs, precision)
    if kind in _PACKED:
        attached.model.train(
            attached.model.training
        )  # as the probe leaves it: PEFT's own modules begin in training
        return Forward.on(attached.model, precision, _PACKED[kind])
    forward = forward_for(attached, precision, log)
    if forward.options.packs:  # else there is a note, which every such training gets
        _PACKED[kind] = forward.options
    return forward


def growth_of(
    forward: Forward, objective: Objective, parameters: Mapping[str, Parameter], example: Example
) -> Growth:
    """Return what `measure_growth` does; a model like an earlier one is not measured again."""
    kind = (
        *(_kind(forward.model), forward.options, forward.precision, forward.head is None),
        *(type(objective), repr(objective), tuple(parameters), len(example.sequences)),
    )
    if kind not in _GROWTHS:
        _GROWTHS[kind] = measure_growth(forward, objective, parameters, example)
    return _GROWTHS[kind]


def _kind(model: nn.Module) -> Hashable:
    """Return what a model computes with: config, modules, the form of its weights, and where products come from."""
    config = base_of(model).config
    weights = tuple((tuple(p.shape), p.dtype, p.device, p.requires_grad) for p in model.parameters())
    return (
        *(config.to_json_string(use_diff=False), config._attn_implementation),
        *(weights, tuple(map(_module, model.modules()))),
        *(onednn_in_use(), backends.onednn_in_use()),
    )


def _module(module: nn.Module) -> Hashable:
    """Return a module's class with what may be set on it from outside."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    codes = tuple(getattr(hook, "__code__", type(hook)) for hook in hooks)
    return type(module), codes, getattr(module, "p", None), getattr(module, "gradient_checkpointing", None)
