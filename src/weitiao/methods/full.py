"""Every weight of the model, in fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ._weights import WeightsMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(WeightsMethod):
    """Full fine-tuning; it has no settings of its own."""

    title: ClassVar[str] = "Full fine-tuning"
    paper: ClassVar[str] = "https://arxiv.org/abs/1801.06146"
    formula: ClassVar[str] = "W <- W - lr * dL/dW for every W"
    trains: ClassVar[str] = "every weight"
    when: ClassVar[str] = "Much data, a large change of behaviour, and memory for 16 bytes a parameter."
    suggested_lr: ClassVar[float] = 2e-5
    keeps_originals: ClassVar[bool] = False

    def trained_names(self, model: PreTrainedModel) -> set[str]:
        """Return the names of all parameters; weights that two layers share count once."""
        return {name for name, _ in model.named_parameters()}
