"""Replaces the values of parameters for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


@contextmanager
def swapped(values: Sequence[tuple[Parameter, Tensor]]) -> Iterator[None]:
    """Within the context each parameter holds the given tensor, also one of another dtype; afterwards its own again."""
    own = [parameter.data for parameter, _ in values]
    try:
        for parameter, value in values:
            parameter.data = value
        yield
    finally:
        for (parameter, _), data in zip(values, own, strict=True):
            parameter.data = data
