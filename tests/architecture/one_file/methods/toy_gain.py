"""The outputs of each linear layer are scaled, by a layer of our own that PEFT does not have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from ..models.anatomy import anatomy, head_to_save, task_type
from ._peft.attached import PeftMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ._layers.base import OwnConfig, OwnTuner

DRAWING = """\
    x  (in)
    │
    W  frozen
    │
    * (1 + g)   g trained, begins at 0
    │
    y  (out)"""


class ToyGain(PeftMethod):
    """Settings of the toy: there are none."""

    title: ClassVar[str] = "Toy gain"
    paper: ClassVar[str] = "https://arxiv.org/abs/2205.05638"
    formula: ClassVar[str] = "y = (1 + g) * (W x + b)"
    trains: ClassVar[str] = "one number for each output of the linear layers"
    family: ClassVar[str] = "scales and biases"
    share: ClassVar[str] = "0.017 %"
    inference_cost: ClassVar[str] = "none once merged"
    memory: ClassVar[str] = "very low"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = "Never: it shows what one file of a method with its own layer needs."
    suggested_lr: ClassVar[float] = 3e-2
    on_quantized: ClassVar[bool] = False
    on_transposed: ClassVar[bool] = False
    lr_falls_with_width: ClassVar[bool] = False

    @classmethod
    def tuner(cls) -> type[OwnTuner]:
        """Return the tuner that PEFT loads adapters of this method with."""
        return _tuner()

    def peft_config(self, model: PreTrainedModel) -> OwnConfig:
        """Return PEFT's config, with every linear layer by its path."""
        return self.tuner().config_class(
            target_modules=list(anatomy(model).projections),
            modules_to_save=head_to_save(model) or None,
            task_type=task_type(model),
        )


@cache
def _tuner() -> type[OwnTuner]:
    """Define the layer on first use: listing methods must not import torch."""
    import torch
    from torch import Tensor, nn

    from ._layers.base import AddingLayer, OwnConfig, OwnTuner

    @dataclass
    class GainConfig(OwnConfig):
        kind: ClassVar[str] = "WEITIAO_TOY_GAIN"

    class GainLayer(AddingLayer):
        adapter_layer_names = ("toy_gain",)

        def __init__(self, base_layer: nn.Module) -> None:
            super().__init__(base_layer)
            self.toy_gain = nn.ParameterDict()

        def add(self, adapter: str, config: GainConfig) -> None:
            zeros = torch.zeros(self.get_base_layer().out_features, dtype=torch.float32, device=self.device)
            self.toy_gain[adapter] = nn.Parameter(zeros)

        def adapted(self, adapter: str, x: Tensor, output: Tensor) -> Tensor:
            return output * (1 + self.toy_gain[adapter]).to(output.dtype)

        def fold(self, adapter: str, sign: int) -> None:
            factor, base = (1 + self.toy_gain[adapter].detach()) ** sign, self.get_base_layer()
            base.weight.data = (base.weight.data * factor[:, None]).to(base.weight.dtype)
            if base.bias is not None:
                base.bias.data = (base.bias.data * factor).to(base.bias.dtype)

    class GainTuner(OwnTuner):
        prefix = "toy_gain"
        config_class = GainConfig
        tuner_layer_cls = GainLayer

    return GainTuner
