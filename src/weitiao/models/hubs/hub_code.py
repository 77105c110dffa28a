"""Removes from a model's config the settings that would download and run code without asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ATTENTION = frozenset({"eager", "sdpa", "flex_attention"})
"""Attention implementations in transformers itself. Other names mean a kernel from the hub, or fall back to one."""
EXPERTS = frozenset({"eager", "batched_mm", "grouped_mm"})
"""The same for mixture-of-experts layers."""


def without_hub_code(config: PretrainedConfig) -> PretrainedConfig:
    """Remove from a config and its nested configs, in place, the implementations that are not transformers' own.

    A config.json may name a kernel such as owner/kernel, which transformers downloads and runs without regard to
    `trust_remote_code`. Which kernels run is decided by this machine, not by the model.
    """
    for part in _parts(config):
        if part._attn_implementation not in ATTENTION:
            part._attn_implementation_internal = None
        if part._experts_implementation not in EXPERTS:
            part._experts_implementation_internal = None
    return config


def _parts(config: PretrainedConfig) -> list[PretrainedConfig]:
    """Return a config and the configs inside it, at any depth."""
    from transformers import PretrainedConfig

    inner = [value for value in vars(config).values() if isinstance(value, PretrainedConfig)]
    return [config, *(part for one in inner for part in _parts(one))]
