"""What a text passes through: the modules that a forward over tokens alone calls, found by running one without weights.

Names do not tell: a decoder made of an encoder-decoder keeps a cross-attention that nothing calls, a model that sees
pictures has a tower of blocks beside the language model's, and a router may be a linear layer that returns a tuple.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import DynamicCache, PreTrainedModel

TOKENS = 4
WITHOUT_DATA = (RuntimeError, TypeError, ValueError, AttributeError, LookupError)
"""What a forward raises that looks at numbers, of which there are none here, or that takes no mask of this shape."""


@dataclass(frozen=True)
class TextPath:
    """The paths of modules in a forward over a text."""

    complete: bool
    """Whether the forward came to its end; if not, what it did not reach is unknown."""
    called: frozenset[str] = frozenset()
    """The modules that were called, finished or not."""
    tensors: frozenset[str] = frozenset()
    """Those that returned one plain tensor."""

    def passes(self, path: str) -> bool:
        """Whether a module takes part, as far as is known."""
        return not self.complete or path in self.called

    def gives_tensor(self, path: str) -> bool:
        """Whether a module returns one plain tensor, as far as is known."""
        return path in self.tensors or (path not in self.called and not self.complete)


@dataclass
class _Recorder:
    called: set[str] = field(default_factory=set)
    tensors: set[str] = field(default_factory=set)

    def watch(self, path: str, module: nn.Module) -> None:
        from torch import Tensor

        def begins(_: nn.Module, __: tuple[Any, ...]) -> None:
            self.called.add(path)

        def ends(_: nn.Module, __: tuple[Any, ...], output: object) -> None:
            if isinstance(output, Tensor):
                self.tensors.add(path)

        module.register_forward_pre_hook(begins)
        module.register_forward_hook(ends)


_KNOWN: dict[tuple[type, str], TextPath] = {}
"""What was found, by class and config, which alone decide it: a model is asked many times."""


def text_path(model: PreTrainedModel) -> TextPath:
    """Return what a text passes through in a model, which may be loaded, quantised, weightless or have a method on it.

    A copy of the same class and config without weights is run on a few tokens (device `meta`).
    """
    key = (type(model), model.config.to_json_string())
    if key not in _KNOWN:
        _KNOWN[key] = _run(model)
    return _KNOWN[key]


def _run(model: PreTrainedModel) -> TextPath:
    """Run a copy with a mask of four sides, which is taken as it is, and where that does not fit without a mask."""
    import torch

    recorder = _Recorder()
    try:
        twin = _twin(model)
    except WITHOUT_DATA:  # a class that its config alone does not build
        return TextPath(complete=False)
    for path, module in twin.named_modules():
        recorder.watch(path, module)
    ids_1T = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
    mask_11TT = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool, device="meta")
    complete = _runs(twin, ids_1T, {"attention_mask": mask_11TT}) or _runs(twin, ids_1T, {})
    return TextPath(complete, frozenset(recorder.called), frozenset(recorder.tensors))


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """Build the same model without weights, its experts computed in the way that looks at no numbers."""
    import torch

    with torch.device("meta"):
        twin = type(model)(copy.deepcopy(model.config))
    twin.set_experts_implementation("batched_mm")
    return twin.eval()


def _runs(twin: PreTrainedModel, ids_1T: Tensor, mask: dict[str, torch.Tensor]) -> bool:
    """Whether a forward over ids (1, T) comes to its end."""
    import torch

    decoder = {"decoder_input_ids": ids_1T} if twin.config.is_encoder_decoder else {}
    try:
        with torch.no_grad():
            twin(input_ids=ids_1T, use_cache=False, **mask, **decoder)
    except WITHOUT_DATA:
        return False
    return True


@dataclass(frozen=True)
class CacheShape:
    """The heads and numbers a head that every block keeps for each token."""

    heads: int
    numbers: int


_CACHES: dict[tuple[type, str], CacheShape | None] = {}


def cache_shape(model: PreTrainedModel) -> CacheShape | None:
    """Return what a model's blocks keep of a text for the tokens that follow it.

    None where they differ, keep something else than keys and values of one shape, or where that does not show without
    weights. One head is kept for all queries by models with multi-query attention, whatever their config calls it.
    """
    key = (type(model), model.config.to_json_string())
    if key not in _CACHES:
        _CACHES[key] = _cache_shape(model)
    return _CACHES[key]


def _cache_shape(model: PreTrainedModel) -> CacheShape | None:
    import torch
    from transformers import DynamicCache

    ids_1T = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
    mask_11TT = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool, device="meta")
    for mask in ({"attention_mask": mask_11TT}, {}):
        cache = DynamicCache()
        try:
            with torch.no_grad():
                _twin(model)(input_ids=ids_1T, past_key_values=cache, use_cache=True, **mask)
            return _one_shape(cache)
        except WITHOUT_DATA:  # also where a block keeps no keys
            continue
    return None


def _one_shape(cache: DynamicCache) -> CacheShape | None:
    """Return the shape that all keys and values (1, heads, T, numbers) of a cache have."""
    shapes = {tuple(part.shape) for layer in cache.layers for part in (layer.keys, layer.values)}
    if len(shapes) != 1:
        return None
    _, *shape = shapes.pop()
    heads, tokens, numbers = shape if len(shape) == 3 else (0, 0, 0)
    return CacheShape(heads, numbers) if tokens == TOKENS else None
