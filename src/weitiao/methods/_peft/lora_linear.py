"""LoRA beside a linear layer as one autograd operation, in the dtype that the layer computes in.

For y = W x + (alpha / r) B A x PEFT's own layer needs six operations besides W x: a cast of x to fp32, two products, a
product with alpha / r, a sum, and a cast back. Here only two operations read and write as much as the layer itself: the
layer, and the addition of the branch to its output. On an H100 with a model of 8 billion parameters the others took a
quarter of the GPU's time. Parameters, files and results are the same as PEFT's.

Shapes: T rows, i inputs, o outputs, r ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from peft import LoraConfig


class _LinearWithBranch(Function):
    """y = x W^T + bias + s (x_A A^T) B^T, where x_A is x, after dropout if there is any."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (torch has no type for it)
        x: Tensor,
        dropped: Tensor | None,
        weight_oi: Tensor,
        bias_o: Tensor | None,
        a_ri: Tensor,
        b_or: Tensor,
        scaling: float,
    ) -> Tensor:
        """Return y, in the dtype of x."""
        y = functional.linear(x, weight_oi, bias_o)
        x_Ti = _rows(x if dropped is None else dropped)
        h_Tr = (x_Ti @ a_ri.to(x.dtype).T).mul_(scaling)
        _add_product(_rows(y), h_Tr, b_or.to(x.dtype).T)
        ctx.save_for_backward(x if dropped is None else dropped, weight_oi, h_Tr, a_ri, b_or)
        ctx.scaling, ctx.drops = scaling, dropped is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradients of x, of the dropped-out x, of A and of B."""
        x, weight_oi, h_Tr, a_ri, b_or = ctx.saved_tensors
        grad_To = _rows(grad)
        wants_x, wants_dropped, _, _, wants_a, wants_b, _ = ctx.needs_input_grad
        grad_Tr = (grad_To @ b_or.to(grad.dtype)).mul_(ctx.scaling)
        grad_x = grad_To @ weight_oi if wants_x else None
        branch = None
        if wants_dropped:
            branch = grad_Tr @ a_ri.to(grad.dtype)
        elif grad_x is not None and not ctx.drops:
            _add_product(grad_x, grad_Tr, a_ri.to(grad.dtype))
        return (
            None if grad_x is None else grad_x.view(x.shape),
            None if branch is None else branch.view(x.shape),
            None,
            None,
            (grad_Tr.T @ _rows(x)).to(a_ri.dtype) if wants_a else None,
            (grad_To.T @ h_Tr).to(b_or.dtype) if wants_b else None,
            None,
        )


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _add_product(to: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right in place: on a GPU with one kernel, on a CPU with the products of engine/kernels/matmul.py."""
    if to.is_cuda:
        to.addmm_(left, right)
    else:
        to.add_(left @ right)


class LoraLinear(Linear):  # type: ignore[misc]  # PEFT's classes are not typed
    """PEFT's LoRA on a linear layer, whose forward is one operation wherever the result is the same."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Return the layer's output plus the adapter's."""
        dtype = _computes_in(x)
        if args or kwargs or not self._is_plain(x, dtype):
            made: Tensor = super().forward(x, *args, **kwargs)
            return made
        (name,) = self.active_adapters
        x, dropout = x.to(dtype), self.lora_dropout[name]
        return _LinearWithBranch.apply(  # type: ignore[no-any-return, no-untyped-call]
            x,
            dropout(x) if self.training and isinstance(dropout, nn.Dropout) else None,
            self.base_layer.weight,
            self.base_layer.bias,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
        )

    def _is_plain(self, x: Tensor, dtype: torch.dtype) -> bool:
        """Return whether there is one adapter, of two matrices, on a frozen nn.Linear without wrappers or hooks.

        Without autocast PEFT computes the branch in A's dtype; if that is not the layer's, PEFT's own forward is used.
        """
        base, names = self.base_layer, self.active_adapters
        return (
            not (self.disable_adapters or self.merged or self.lora_variant or torch.compiler.is_compiling())
            and len(names) == 1
            and names[0] in self.lora_A
            and not self.lora_bias[names[0]]
            and type(base) is nn.Linear
            and base.weight.dtype is dtype
            and (self.lora_A[names[0]].weight.dtype is dtype or torch.is_autocast_enabled(x.device.type))
            and not any(parameter.requires_grad for parameter in base.parameters(recurse=False))
            and not (base._forward_hooks or base._forward_pre_hooks or base._backward_hooks)
            and "forward" not in vars(base)  # accelerate replaces it if the weights are elsewhere
        )


def _computes_in(x: Tensor) -> torch.dtype:
    """Return the dtype in which a linear layer computes with x: that of autocast if enabled, else that of x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def one_operation(target: nn.Module, adapter: str, config: LoraConfig, **kwargs: Any) -> LoraLinear | None:  # noqa: ANN401
    """Return the layer that PEFT should put in place of `target`; None if PEFT's own is right."""
    base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
    if type(base) is not nn.Linear or config.fan_in_fan_out or kwargs.get("parameter_name"):
        return None
    return LoraLinear(target, adapter, config=config, **kwargs)
