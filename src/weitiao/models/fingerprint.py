"""A cheap fingerprint of a base model, so that an adapter or checkpoint made on another base is noticed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

SAMPLED_TENSORS = 8
SAMPLED_VALUES = 4096
SHAPE_FREE_KEYS = frozenset(
    {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "quantization_config", "use_cache"}
)
"""What may differ between two loads of one base."""


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a base: its config, and a few of its tensors."""

    config: str
    """The sha256 of the config, without what precision and place change."""
    tensors: Mapping[str, str]
    """Tensor name -> the sha256 of values sampled from it, rounded to bf16."""

    def differences(self, other: Fingerprint) -> list[str]:
        """Return in what two bases differ; empty for the same base, in whatever precision or quantisation."""
        config = [] if self.config == other.config else ["config"]
        common = [name for name in self.tensors if name in other.tensors]
        return config + [name for name in common if self.tensors[name] != other.tensors[name]]


def fingerprint(model: PreTrainedModel) -> Fingerprint:
    """Return a base's fingerprint; take it before a method is attached, which may change or rename
    tensors."""
    floating = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    projections = [name for name, p in floating.items() if p.dim() > 1]
    vectors = [name for name, p in floating.items() if p.dim() == 1]
    chosen = _evenly(projections, SAMPLED_TENSORS) + _evenly(vectors, SAMPLED_TENSORS)
    return Fingerprint(_config_hash(model.config), {name: _tensor_hash(floating[name]) for name in chosen})


def _evenly(names: list[str], count: int) -> list[str]:
    """Return at most `count` names: the first, the last, and some between them."""
    if len(names) <= count:
        return names
    return [names[round(n * (len(names) - 1) / (count - 1))] for n in range(count)]


def _config_hash(config: PretrainedConfig) -> str:
    kept = {key: value for key, value in config.to_dict().items() if key not in SHAPE_FREE_KEYS}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def _tensor_hash(tensor: Tensor) -> str:
    """Hash evenly spaced values. Rounded to bf16, they are the same whichever precision the base was loaded
    in."""
    import torch

    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLED_VALUES)][:SAMPLED_VALUES].to("cpu", torch.bfloat16)
    return hashlib.sha256(sample.contiguous().view(torch.int16).numpy().tobytes()).hexdigest()
