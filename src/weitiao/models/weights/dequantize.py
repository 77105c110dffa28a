"""Turns a quantised model back into a plain one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import ModelError, Problem
from ..anatomy import transposed_paths
from ..load import weightless
from ..precision import quantization_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def dequantized(model: PreTrainedModel) -> PreTrainedModel:
    """Replace a model's quantised layers by plain linear ones, in place, in the model's dtype.

    Raises ModelError for a quantisation that cannot be undone.
    """
    try:
        return model.dequantize(model.config.dtype)
    except NotImplementedError as error:
        raise ModelError(
            Problem(
                "this model's quantisation cannot be undone, so nothing can be merged into it",
                quantization_of(model.config),
                "nf4, fp4 or int8, or a base that is not quantised",
            )
        ) from error


def restore_transposed(model: PreTrainedModel) -> None:
    """Restore, in place, the Conv1D layers that quantising turned into nn.Linear: saved files use Conv1D's layout."""
    for path in transposed_paths(weightless(model.config)) - transposed_paths(model):
        model.set_submodule(path, _as_conv1d(model.get_submodule(path)))


def _as_conv1d(linear: nn.Module) -> nn.Module:
    import torch
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    assert isinstance(linear, nn.Linear)
    conv: nn.Module = Conv1D(linear.out_features, linear.in_features)
    conv.weight = nn.Parameter(linear.weight.data.T.contiguous(), requires_grad=False)
    bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.data
    conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv
