"""A sparse change of each chosen weight: a fixed random selection of its entries is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.errors import Problem
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, shapes

if TYPE_CHECKING:
    from peft import ShiraConfig
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

DRAWING = """\
x  (in)
│
W + S            W   out x in   frozen
│
│      . . s . . . .     s   trained, begin at 0: r (in + out)
│      . . . . . s .         entries chosen at random
│      s . . . . . .     .   0 for good
│
y  (out)"""


class Shira(TargetedMethod):
    """SHiRA's settings, under PEFT's names."""

    title: ClassVar[str] = "SHiRA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2406.13175"
    formula: ClassVar[str] = "y = (W + S) x, S zero except for r (in + out) entries"
    trains: ClassVar[str] = "r (in + out) chosen entries of each chosen weight"
    family: ClassVar[str] = "own weights"
    share: ClassVar[str] = "0.042 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "medium: a changed copy of each weight"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "To mix adapters or switch between them fast: sparse changes interfere little with each other."
    )
    on_transposed: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 1.5e-2
    peft_type: ClassVar[str] = "SHIRA"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "rank": "r",
        "seed": "random_seed",
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    r: int = Field(default=8, ge=1)
    """Sets the number of entries to train: r (in + out), as many as LoRA of this rank has."""
    random_seed: int = Field(default=0, ge=0)
    """Seed of the random choice of entries."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    def shape_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem if a weight has fewer entries than r (in + out)."""
        sizes = shapes(model, self.paths(model))
        path, largest = min(
            ((path, a * b // (a + b)) for path, (a, b) in sizes.items()), key=lambda found: found[1]
        )
        if self.r <= largest:
            return []
        what = "method.r asks for more entries than a weight has"
        return [Problem(what, f"r: {self.r} on {path}", f"r up to {largest}", f"method.r={largest}")]

    def peft_config(self, model: PreTrainedModel) -> ShiraConfig:
        """Return PEFT's config."""
        from peft import ShiraConfig

        config = ShiraConfig(r=self.r, random_seed=self.random_seed, **self.placement(model))
        config.mask_fn = _chosen_entries
        return config


def _chosen_entries(layer: nn.Module, r: int, **more: Any) -> Tensor:  # noqa: ANN401  (PEFT's signature)
    """Return PEFT's random mask (out, in) of r (in + out) entries.

    On a weightless layer, where only their number matters, the mask is (1, number).
    """
    import torch
    from peft.tuners.shira.mask_functions import random_mask

    weight = layer.get_parameter("weight")
    if weight.is_meta:
        return torch.ones(1, r * sum(weight.shape), dtype=torch.bool)
    mask: Tensor = random_mask(layer, r, **more)
    return mask
