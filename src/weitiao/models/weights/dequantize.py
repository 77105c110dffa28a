"""From a model held in few bits back to a plain one."""

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
    """Turn a model's quantised layers into plain linear ones, in place, in the precision of the rest.

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
    """Put back the Conv1D layers that quantising had turned into linear ones, in place: files hold their
    form."""
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
