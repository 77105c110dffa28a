"""Finds the modules that a forward pass over text calls, by running the model without weights.

Names do not show this: a decoder taken from an encoder-decoder keeps a cross-attention that is never called, a
vision-language model has a tower of blocks beside the language model's, and a router may be a linear layer that returns
a tuple.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

TOKENS = 4
WITHOUT_DATA = (RuntimeError, TypeError, ValueError, AttributeError, LookupError)
"""Errors of a forward pass on device `meta` that looks at values, or that does not accept a mask of this shape."""


@dataclass(frozen=True)
class TextPath:
    """The modules that a forward pass over text calls, by path."""

    complete: bool
    """Whether the forward pass finished; if not, nothing is known about modules that it did not reach."""
    called: frozenset[str] = frozenset()
    """The modules that were called, whether or not they returned."""
    tensors: frozenset[str] = frozenset()
    """The modules that returned a single tensor."""

    def passes(self, path: str) -> bool:
        """Return whether a module is called; True if the forward pass did not finish."""
        return not self.complete or path in self.called

    def gives_tensor(self, path: str) -> bool:
        """Return whether a module returns a single tensor; True if the forward pass failed before it reached the
        module."""
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


_KNOWN: dict[Hashable, TextPath] = {}
"""Cached results, by class and config, which determine them: a model is asked many times."""
DECIDE_NOTHING = frozenset(
    {
        "_name_or_path",
        "_commit_hash",
        "_post_init_done",
        "_attn_implementation_internal",
        "_experts_implementation_internal",
    }
)
"""Attributes of a config from which no part of a model follows: where it was read, and how the parts compute."""


def config_key(config: PretrainedConfig) -> Hashable:
    """Return what two configs are equal by, those inside them included.

    Much quicker than their JSON, for which transformers builds a default config to compare with.
    """
    from transformers import PretrainedConfig

    return type(config), tuple(
        (name, config_key(value) if isinstance(value, PretrainedConfig) else repr(value))
        for name, value in vars(config).items()
        if name not in DECIDE_NOTHING
    )


def text_path(model: PreTrainedModel) -> TextPath:
    """Return which modules of a model a text passes through; the model may be quantised, weightless or have a method
    attached.

    A weightless copy of the same class and config is run on a few tokens (device `meta`).
    """
    key = (type(model), config_key(model.config))
    if key not in _KNOWN:
        _KNOWN[key] = _run(model)
    return _KNOWN[key]


def _run(model: PreTrainedModel) -> TextPath:
    """Run a copy with a four-dimensional mask, which is used as it is, or without a mask if that fails."""
    import torch

    recorder = _Recorder()
    try:
        twin = _twin(model)
    except WITHOUT_DATA:  # a class that cannot be built from its config alone
        return TextPath(complete=False)
    for path, module in twin.named_modules():
        recorder.watch(path, module)
    ids_1T = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
    mask_11TT = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool, device="meta")
    complete = _runs(twin, ids_1T, {"attention_mask": mask_11TT}) or _runs(twin, ids_1T, {})
    return TextPath(complete, frozenset(recorder.called), frozenset(recorder.tensors))


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """Build the same model on device `meta`, with the implementation of experts that does not look at values."""
    import torch

    with torch.device("meta"):
        twin = type(model)(copy.deepcopy(model.config))
    twin.set_experts_implementation("batched_mm")
    return twin.eval()


def _runs(twin: PreTrainedModel, ids_1T: Tensor, mask: dict[str, torch.Tensor]) -> bool:
    """Return whether a forward pass over ids (1, T) finishes."""
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
    """The number of heads, and of numbers per head, that every block caches for each token."""

    heads: int
    numbers: int


_CACHES: dict[Hashable, CacheShape | None] = {}


def cache_shape(model: PreTrainedModel) -> CacheShape | None:
    """Return the shape of what a model's blocks cache for each token of a text.

    None if blocks differ, cache anything but keys and values of one shape, or cannot be run without weights. The heads
    are read from a cache because configs name multi-query attention (one cached head for all queries) in different
    ways.
    """
    key = (type(model), config_key(model.config))
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
        except WITHOUT_DATA:  # also raised if a block caches no keys
            continue
    return None


def _one_shape(cache: DynamicCache) -> CacheShape | None:
    """Return the shape that all keys and values (1, heads, T, numbers) of a cache share; None if they differ."""
    shapes = {tuple(part.shape) for layer in cache.layers for part in (layer.keys, layer.values)}
    if len(shapes) != 1:
        return None
    _, *shape = shapes.pop()
    heads, tokens, numbers = shape if len(shape) == 3 else (0, 0, 0)
    return CacheShape(heads, numbers) if tokens == TOKENS else None
