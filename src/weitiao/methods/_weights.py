"""Methods that train the model's own weights: saved as a plain model, nothing to merge."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..core.errors import ModelError, Problem
from ..models.precision import quantization_of
from ._base import Attached, Method
from ._checks import refuse_not_finite, refuse_quantized
from ._swap import swapped

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from transformers import PretrainedConfig, PreTrainedModel


class WeightsAttached(Attached):
    """A model of which some or all weights train."""

    model: PreTrainedModel
    saves_whole_model = True

    def __init__(self, model: PreTrainedModel, trained: set[str], keep_originals: bool) -> None:
        """Train the named parameters, in fp32, and no other.

        With `keep_originals` their first values are kept (4 bytes a trained parameter in fp32, a quarter of
        what the optimizer and gradients take), so that the model can be switched back to the base.
        """
        import torch

        self.model = model
        self._originals: list[tuple[Parameter, Tensor]] | None = [] if keep_originals else None
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
            if name in trained:
                if self._originals is not None:
                    self._originals.append((parameter, parameter.data.clone()))
                parameter.data = parameter.data.to(torch.float32)

    def save(self, folder: Path) -> None:
        """Write the whole model, as safetensors that plain transformers loads; raises NotFiniteError, then
        nothing is."""
        refuse_not_finite({name: p.detach() for name, p in self.trainable().items()}, "the model")
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within the context the model is the base, bit-equal; raises ModelError where no copy of it was
        kept."""
        if self._originals is None:
            raise ModelError(
                Problem(
                    "the base's own weights were trained and no second copy of all of them is kept",
                    type(self.model).__name__,
                    "the base as a model of its own",
                    "load the base beside it",
                )
            )
        with swapped(self._originals):
            yield

    def merge(self) -> PreTrainedModel:
        """Return the model itself: there is nothing beside its weights."""
        return self.model


class WeightsMethod(Method):
    """A method that trains weights of the model itself."""

    on_quantized: ClassVar[bool] = False
    keeps_originals: ClassVar[bool]
    """Whether the base can be had back without loading it again."""

    @abstractmethod
    def trained_names(self, model: PreTrainedModel) -> set[str]:
        """Return the names of the parameters that train."""

    def check(self, model: PreTrainedModel, config: PretrainedConfig) -> None:
        """Raise ModelError where the base is quantised."""
        from . import METHODS

        able = [name for name in METHODS.names() if METHODS.load(name).on_quantized]
        refuse_quantized(self.name, quantization_of(config), able)

    def attach(self, model: PreTrainedModel) -> WeightsAttached:
        """Set which parameters train; raises ModelError where the method cannot apply."""
        self.check(model, model.config)
        return WeightsAttached(model, self.trained_names(model), self.keeps_originals)
