"""What a method leaves as it is in a model, with its share of the weights, in sentences for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..models.anatomy import anatomy, is_inside, linear_classes
from ..models.precision import quantization_of
from ..models.text_path import text_path
from ._base import numbers_of

if TYPE_CHECKING:
    from torch.nn import Parameter
    from transformers import PreTrainedModel


def left_out(
    model: PreTrainedModel, adapted: Iterable[str], obstacle: str, dropped: Iterable[str]
) -> list[str]:
    """Return a sentence for each part of a mixture or of a model for more than texts that stays as it is.

    `adapted` are the experts' parameters that are adapted, `obstacle` says why others are not, `dropped` are layers
    that PEFT cannot adapt. A model without such parts gives none.
    """
    parts, chosen = anatomy(model), set(adapted)
    weights = dict(model.named_parameters())
    total = sum(map(numbers_of, weights.values()))
    experts = [path for path in parts.experts if path not in chosen]
    reason = f" ({obstacle})" if obstacle else " (method.target_modules=all-linear adapts them)"
    found = {
        f"experts{reason}": _named(weights, experts),
        "routers of experts": _named(weights, [*parts.routers, *_router_weights(weights, parts.experts)]),
        "layers that PEFT takes for experts and cannot adapt on packed weights or with these settings": _named(
            weights, dropped
        ),
        "linear layers that compute in a way of their own": _named(weights, parts.special),
        "modules that a text does not pass through": _off_path(model, weights),
    }
    return [
        f"left as they are: {what}, {share(names, weights, total)} of the weights"
        for what, names in found.items()
        if names
    ]


def packed_in_part(model: PreTrainedModel) -> list[str]:
    """Return a sentence where few bits hold layers only, and the experts stay whole."""
    experts, quantization = anatomy(model).experts, quantization_of(model.config)
    if quantization == "none" or not experts:
        return []
    weights = dict(model.named_parameters())
    part = share(experts, weights, sum(map(numbers_of, weights.values())))
    return [
        f"{quantization} packs linear layers; the experts are parameters and stay whole: {part} of the weights"
    ]


def share(names: Iterable[str], weights: Mapping[str, Parameter], total: int) -> str:
    """Write which share of a model's weights some parameters are."""
    return f"{100 * sum(numbers_of(weights[name]) for name in names) / total:.2g} %"


def _router_weights(weights: Mapping[str, Parameter], experts: Iterable[str]) -> list[str]:
    """Return the matrices beside experts, with a row for each of them, that lie in no linear layer."""
    counts = {path.rpartition(".")[0]: weights[path].shape[0] for path in experts}
    return [
        name
        for name, weight in weights.items()
        for holder, count in counts.items()
        if weight.ndim == 2 and weight.shape[0] == count
        if is_inside(name, holder.rpartition(".")[0]) and not is_inside(name, holder)
    ]


def _named(weights: Mapping[str, Parameter], paths: Iterable[str]) -> list[str]:
    """Return the names of parameters at or under some paths."""
    places = tuple(paths)
    return [name for name in weights if any(is_inside(name, place) for place in places)]


def _off_path(model: PreTrainedModel, weights: Mapping[str, Parameter]) -> list[str]:
    """Return the parameters of linear layers that a text does not pass through; few for a model of texts alone."""
    texts = text_path(model)
    layers = [path for path, module in model.named_modules() if isinstance(module, linear_classes())]
    off = {path for path in layers if not texts.passes(path)}
    return [name for name in weights if name.rpartition(".")[0] in off]
