"""What activations and elementwise products made is made again in the backward pass instead of kept.

Of a gated MLP autograd keeps the gate, its activation, the other branch and, where the layer behind them is adapted or
trained, their product; of a norm its input and, for the layers behind it, its output. The second of each follows from
the first by an operation or two, as exact as before and far cheaper than the layers around. Checkpointing a whole
block (activation_checkpointing.py) saves more, and multiplies all its matrices again. It is what fused kernels do for
the blocks they know (https://github.com/linkedin/Liger-Kernel), here for whatever a model is made of.
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
    """How a tensor is made again."""

    make: Maker
    shape: torch.Size


class remade(saved_tensors_hooks):
    """Within the context, of what is saved for the backward pass only that is kept which costs more to make again."""

    def __init__(self) -> None:
        """Keep tensors, or how they are made."""
        super().__init__(_pack, _unpack)


def _pack(tensor: Tensor) -> Tensor | Remade:
    node = tensor.grad_fn
    if node is not None and tensor.is_contiguous():
        source = node.next_functions[0][0] if node.name() in VIEWS else node
        make = _maker(source)
        if make is not None:
            return Remade(make, tensor.shape)
    return tensor.detach()  # with its history it would keep itself alive


def _unpack(kept: Tensor | Remade) -> Tensor:
    return kept if isinstance(kept, Tensor) else kept.make().view(kept.shape)


def _maker(node: Any) -> Maker | None:  # noqa: ANN401  (nodes of the graph have no type of their own)
    """Return how a node's output follows from what the node has saved itself, None where it does not."""
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
    """Return how a tensor in another type follows from what it was, as norms compute in fp32."""
    make = _maker(node.next_functions[0][0])
    if make is None:
        return None
    output = node._input_metadata[0]
    return lambda: make().to(output.device, output.dtype)


def _product_maker(node: Any) -> Maker | None:  # noqa: ANN401
    """Return how a product follows from its factors, of which each that is not saved must follow itself.

    A factor is saved where the other one's gradient is asked for: of frozen weight * normalised input the weight only.
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
