"""Pairs of each chosen layer's outputs are rotated and scaled by a few trained numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ..core.errors import Problem
from ..core.settings import left_out
from ._peft.targets import BlockNumbers, ModuleNames, TargetedMethod, TargetModules, shapes

if TYPE_CHECKING:
    from peft import RoadConfig
    from transformers import PretrainedConfig, PreTrainedModel

LARGEST_GROUP = 64

DRAWING = """\
x  (in)
│
W   out x in    frozen
│
h   =   h_1   h_2   ..                 outputs in pairs
         └──┬──┘
            R       trained: an angle and a scale for each pair,
         ┌──┴──┐    begin at angle 0 and scale 1
y   =   y_1   y_2   ..   (out)"""


class Road(TargetedMethod):
    """RoAd's settings, under PEFT's names."""

    title: ClassVar[str] = "RoAd"
    paper: ClassVar[str] = "https://arxiv.org/abs/2409.00119"
    formula: ClassVar[str] = "y = R W x, R rotates and scales pairs of outputs"
    trains: ClassVar[str] = "one, two or four angles and as many scales for each pair of outputs"
    family: ClassVar[str] = "rotations"
    share: ClassVar[str] = "0.002 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "To serve many adapters in one batch: applying one is an elementwise product."
    on_transposed: ClassVar[bool] = False
    suggested_lr: ClassVar[float] = 1.5e-2
    lr_falls_with_width: ClassVar[bool] = False
    peft_type: ClassVar[str] = "ROAD"
    known_elsewhere: ClassVar[Mapping[str, str]] = {
        "target": "target_modules",
        "layers": "layers_to_transform",
    }

    variant: Literal["road_1", "road_2", "road_4"] = "road_1"
    """Number of angles, and of scales, for each pair of outputs: one (road_1), two (road_2) or four (road_4)."""
    group_size: int | None = left_out("(the largest that fits)", ge=2, multiple_of=2)
    """Number of outputs within which pairs are formed; affects only speed. Default: the largest power of two up
    to 64 that divides the outputs of the chosen layers."""
    target_modules: TargetModules = "auto"
    modules_to_save: ModuleNames = Field(default=[])
    layers_to_transform: BlockNumbers = None

    def _fitting_group(self, model: PreTrainedModel) -> int:
        common = math.gcd(LARGEST_GROUP, *(out for _, out in shapes(model, self.paths(model)).values()))
        return max(common, 2)

    def shape_problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem if the outputs of a layer cannot be divided into whole groups."""
        size = self.group_size or self._fitting_group(model)
        sizes = shapes(model, self.paths(model))
        unfit = [f"{path} ({out} outputs)" for path, (_, out) in sizes.items() if out % size]
        if not unfit:
            return []
        what = "method.group_size must divide the outputs of every chosen layer"
        return [Problem(what, f"group_size: {size}; {', '.join(unfit[:3])}", "a divisor, such as 2")]

    def peft_config(self, model: PreTrainedModel) -> RoadConfig:
        """Return PEFT's config."""
        from peft import RoadConfig

        return RoadConfig(
            variant=self.variant,
            group_size=self.group_size or self._fitting_group(model),
            **self.placement(model),
        )
