"""Every weight of the model, in fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..core.errors import ModelError, Problem
from ..models.precision import quantization_of
from ._alternatives import require_applicable
from ._base import Attached, Method
from ._checks import quantization_problems, refuse_not_finite

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

DRAWING = """\
tokens
│
embeddings        trained
│
block 1           trained
..                trained
block L           trained
│
norm, head        trained
│
logits"""


class FullAttached(Attached):
    """A model whose weights all train."""

    model: PreTrainedModel
    saves_whole_model = True

    def __init__(self, model: PreTrainedModel) -> None:
        """Make every parameter trainable, in fp32; weights that two layers share are one parameter."""
        import torch

        self.model = model
        for parameter in model.parameters():
            parameter.requires_grad_(True)
            parameter.data = parameter.data.to(torch.float32)

    def save(self, folder: Path) -> None:
        """Write the whole model, as safetensors that plain transformers loads.

        Raises NotFiniteError; then nothing is written.
        """
        refuse_not_finite({name: p.detach() for name, p in self.trainable().items()}, "the model")
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)

    def disabled(self) -> AbstractContextManager[None]:
        """Raise ModelError: no second copy of all weights is kept."""
        raise ModelError(
            Problem(
                "the base's own weights were trained, and no copy of the original ones is kept",
                type(self.model).__name__,
                "the base as a separate model",
                "load the base separately",
            )
        )

    def merge(self) -> PreTrainedModel:
        """Return the model itself, since all training is in its weights."""
        return self.model


class Full(Method):
    """Full fine-tuning; it has no settings of its own."""

    title: ClassVar[str] = "Full fine-tuning"
    paper: ClassVar[str] = "https://arxiv.org/abs/1801.06146"
    formula: ClassVar[str] = "W <- W - lr * dL/dW for every W"
    trains: ClassVar[str] = "every weight"
    family: ClassVar[str] = "own weights"
    share: ClassVar[str] = "100 %"
    inference_cost: ClassVar[str] = "none"
    memory: ClassVar[str] = "very high: 16 bytes per weight"
    drawing: ClassVar[str] = DRAWING
    when: ClassVar[str] = (
        "For much data and a large change of behaviour, with memory for 16 bytes per parameter."
    )
    suggested_lr: ClassVar[float] = 1.5e-4
    on_quantized: ClassVar[bool] = False

    def problems(self, model: PreTrainedModel, config: PretrainedConfig) -> list[Problem]:
        """Return a problem if the base is quantised."""
        return quantization_problems(self.name, quantization_of(config))

    def attach(self, model: PreTrainedModel) -> FullAttached:
        """Make every parameter trainable; raises ModelError if the base is quantised."""
        require_applicable(self, model, model.config)
        return FullAttached(model)
