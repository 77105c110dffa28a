"""Reports what a method leaves unchanged in a model, with its share of the weights, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..models.anatomy import Anatomy, anatomy, is_inside, linear_classes
from ..models.precision import quantization_of
from ..models.text_path import text_path
from ._base import numbers_of

if TYPE_CHECKING:
    from torch.nn import Parameter
    from transformers import PreTrainedModel


ALL_LINEAR = "method.target_modules=all-linear adapts them"
ROUTERS = "routers of experts"
DROPPED = "layers that PEFT takes for experts and cannot adapt on quantised weights or with these settings"
SPECIAL = "linear layers that do not compute a plain matrix product"
OFF_PATH = "modules that a text does not pass through"
NO_LAYER = "matrices that no adapter can change: outside linear layers, or read without calling their layer"


def left_untouched(
    model: PreTrainedModel, adapted: Iterable[str], obstacle: str | None, dropped: Iterable[str]
) -> list[str]:
    """Return a sentence, with the share of the weights, for each part of a model that no choice of layers changes.

    `adapted` are the experts' parameters that are adapted, `obstacle` says why the others are not, and `dropped` are
    layers that PEFT cannot adapt. A plain text model has no such parts, and the list is empty.
    """
    parts, chosen = anatomy(model), set(adapted)
    weights = dict(model.named_parameters())
    total = sum(map(numbers_of, weights.values()))
    routers = _named(weights, [*parts.routers, *_router_weights(model, weights, parts.experts)])
    off_path = _off_path(model, weights)
    found = [
        (f"experts ({obstacle or ALL_LINEAR})", [path for path in parts.experts if path not in chosen]),
        (ROUTERS, routers),
        (DROPPED, _named(weights, dropped)),
        (SPECIAL, _named(weights, parts.special)),
        (OFF_PATH, off_path),
        (NO_LAYER, sorted(set(_in_no_layer(model, parts)) - set(routers) - set(off_path))),
    ]
    return [
        f"left as they are: {what}, {share(names, weights, total)} % of the weights"
        for what, names in found
        if names
    ]


def packed_in_part(model: PreTrainedModel) -> list[str]:
    """Return a sentence if quantisation packs the linear layers only and leaves the experts in full precision."""
    experts, quantization = anatomy(model).experts, quantization_of(model.config)
    if quantization == "none" or not experts:
        return []
    weights = dict(model.named_parameters())
    part = share(experts, weights, sum(map(numbers_of, weights.values())))
    return [
        f"{quantization} quantises linear layers; the experts are parameters and keep their precision: "
        f"{part} % of the weights"
    ]


def share(names: Iterable[str], weights: Mapping[str, Parameter], total: int) -> str:
    """Return some parameters' share of a model's weights in percent, as text."""
    return f"{100 * sum(numbers_of(weights[name]) for name in names) / total:.2g}"


def _router_weights(
    model: PreTrainedModel, weights: Mapping[str, Parameter], experts: Iterable[str]
) -> list[str]:
    """Return the matrices beside experts that lie in no linear layer and have one row per expert, and their biases.

    Linear layers are judged by `Anatomy.routers`: those of a shared expert may be as wide as there are experts.
    """
    linear = {path for path, module in model.named_modules() if isinstance(module, linear_classes())}
    counts = {path.rpartition(".")[0]: weights[path].shape[0] for path in experts}
    found = [
        name
        for name, weight in weights.items()
        for holder, count in counts.items()
        if weight.ndim == 2 and weight.shape[0] == count and name.rpartition(".")[0] not in linear
        if is_inside(name, holder.rpartition(".")[0]) and not is_inside(name, holder)
    ]
    modules = {name.rpartition(".")[0]: weights[name].shape[:1] for name in found}
    return found + [
        name for name, weight in weights.items() if weight.shape == modules.get(name.rpartition(".")[0])
    ]


def _named(weights: Mapping[str, Parameter], paths: Iterable[str]) -> list[str]:
    """Return the names of the parameters at or below some paths."""
    places = tuple(paths)
    return [name for name in weights if any(is_inside(name, place) for place in places)]


def _in_no_layer(model: PreTrainedModel, parts: Anatomy) -> list[str]:
    """Return the matrices inside the blocks that an adapter on layers or on experts cannot be put on.

    They belong to a module that is no linear layer, such as DBRX's experts and the parameters of state-space kernels,
    or to a linear layer that is never called.
    """
    from torch import nn

    holders = {path.rpartition(".")[0] for path in parts.experts}
    usable = (*linear_classes(), nn.Embedding)
    other = [
        f"{path}.{name}"
        for path, module in model.named_modules()
        if path not in holders and (not isinstance(module, usable) or path in parts.unreachable)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.numel() > max(parameter.shape, default=1)  # no vector, also not one stored as a matrix
    ]
    return [name for name in other if parts.block_of(name) is not None]


def _off_path(model: PreTrainedModel, weights: Mapping[str, Parameter]) -> list[str]:
    """Return the parameters of linear layers that a forward pass over text does not call; few in a text-only model."""
    texts = text_path(model)
    layers = [path for path, module in model.named_modules() if isinstance(module, linear_classes())]
    off = {path for path in layers if not texts.passes(path)}
    return [name for name in weights if name.rpartition(".")[0] in off]
