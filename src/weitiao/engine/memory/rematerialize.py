"""Recomputes outputs of activation functions and elementwise products in the backward pass instead of saving them.

For a gated MLP autograd saves the gate, its activation, the other branch and, if the following layer is adapted or
trained, their product; for a norm it saves the input and, for the following layers, the output. The activation and the
product, and the norm's output, follow from the other saved tensors by one or two operations: just as exact, and far
cheaper than the surrounding layers. Checkpointing a whole block (activation_checkpointing.py) saves more memory but
repeats all its matrix products. Fused kernels do the same for the blocks they know
(https://github.com/linkedin/Liger-Kernel); this works for any model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

VIEWS = frozenset({"ViewBackward0", "UnsafeViewBackward0"})

Maker = Callable[[], Tensor]


class Remade(NamedTuple):
    """A saved tensor, replaced by a function that recomputes it."""

    make: Maker
    shape: torch.Size


class remade(saved_tensors_hooks):
    """Within the context, saved tensors that are cheap to recompute are recomputed in the backward pass."""

    def __init__(self) -> None:
        """Install the hooks that pack and unpack saved tensors."""
        super().__init__(_pack, _unpack)


def _pack(tensor: Tensor) -> Tensor | Remade:
    node = tensor.grad_fn
    if node is not None and tensor.is_contiguous():
        source = node.next_functions[0][0] if node.name() in VIEWS else node
        make = _maker(source)
        if make is not None:
            return Remade(make, tensor.shape)
    return tensor.detach()  # with its grad_fn attached, the graph would keep itself alive


def _unpack(kept: Tensor | Remade) -> Tensor:
    return kept if isinstance(kept, Tensor) else kept.make().view(kept.shape)


def _maker(node: Any) -> Maker | None:  # noqa: ANN401  (autograd nodes have no public type)
    """Return a function that recomputes a node's output from the node's own saved tensors; None if it cannot."""
    match node.name() if node is not None else None:
        case "SiluBackward0":
            return lambda: functional.silu(node._saved_self)
        case "GeluBackward0":
            return lambda: functional.gelu(node._saved_self, approximate=node._saved_approximate)
        case "ToCopyBackward0":
            return _copy_maker(node)
        case "MulBackward0":
            return _product_maker(node)
    return None


def _copy_maker(node: Any) -> Maker | None:  # noqa: ANN401
    """Return a function that recomputes a dtype cast (norms compute in fp32), None if its input cannot be."""
    make = _maker(node.next_functions[0][0])
    if make is None:
        return None
    output = node._input_metadata[0]
    return lambda: make().to(output.device, output.dtype)


def _product_maker(node: Any) -> Maker | None:  # noqa: ANN401
    """Return a function that recomputes a product; None if a factor is neither saved nor recomputable.

    Autograd saves a factor only if the other one needs a gradient: for frozen weight * normalised input, only the
    weight.
    """
    left, right = (before for before, _ in node.next_functions)
    make_left = None if right else _maker(left)
    make_right = None if left else _maker(right)
    if not (right or make_left) or not (left or make_right):
        return None

    def make() -> Tensor:
        first = make_left() if make_left else node._saved_self
        second = make_right() if make_right else node._saved_other
        made: Tensor = first * second
        return made

    return make
