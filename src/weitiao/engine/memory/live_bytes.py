"""Live bytes after every operation of a forward and backward pass, and how they grow with the number of tokens.

Packs of different sizes run the same operations. So the live bytes after each operation are a polynomial,
a + b * T + c * T * L, with T tokens in the pack and L in its longest example (c: attention scores, if attention keeps
them). Three small packs determine its coefficients exactly. The peak of a large pack is the largest of these
polynomials at its size, so no pack of that size has to run.

Shapes: M moments (one after each operation), 3 packs measured.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode

Bytes = NDArray[np.float64]


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Records, after each operation in the mode, the live bytes of storages that were created in the mode.

    Storages from before (weights, gradients, ids) do not count, nor does scratch memory an operation frees itself.
    """

    supports_higher_order_operators = True
    """Read by torch; FlexAttention is a higher-order operator."""

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled functions run compiled in this mode, as FlexAttention must.

        What a compiled function saves for its backward pass is not counted; for FlexAttention that is one more copy of
        its output.
        """
        return True

    def __init__(self, device_type: str) -> None:
        """Count storages on devices of one type: cpu, cuda, ..."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.moments: list[tuple[object, int]] = []
        """Each operation, and the bytes alive after it."""
        self._device_type = device_type
        self._alive: dict[int, weakref.ref[UntypedStorage]] = {}
        self.live_bytes = 0
        """Bytes of the storages that were created and are not freed yet."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:  # noqa: ANN401  (any return value)
        """Run an operation and count the storages it created."""
        made = func(*args, **(kwargs or {}))
        unknown = [storage for storage in _storages(made) if id(storage) not in self._alive]
        if unknown:  # looked for only now: an operation is usually given only what is known
            given = set(map(id, _storages((args, kwargs))))
            for storage in unknown:
                if id(storage) not in given and storage.device.type == self._device_type:
                    self._count(storage)
        self.moments.append((func, self.live_bytes))
        return made

    def _count(self, storage: UntypedStorage) -> None:
        key, size_bytes = id(storage), storage.nbytes()
        if key in self._alive:  # two results of one operation may share a storage
            return

        def freed(_: object) -> None:
            del self._alive[key]
            self.live_bytes -= size_bytes

        # torch keeps the Python object of a storage for as long as the storage lives, so its id is the storage's.
        self._alive[key] = weakref.ref(storage, freed)
        self.live_bytes += size_bytes


def _storages(values: object) -> list[UntypedStorage]:
    """Return the storages of an operation's arguments or results, which nest in tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        if values.layout is torch.sparse_coo:
            return [values._indices().untyped_storage(), values._values().untyped_storage()]
        return [values.untyped_storage()]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (tuple, list)):
        return []
    return [storage for value in values for storage in _storages(value)]


@dataclass(frozen=True)
class Growth:
    """The bytes alive at each of M moments of a pass, as a + b * T + c * T * L."""

    fixed_M: Bytes
    per_token_M: Bytes
    per_pair_M: Bytes
    """Bytes for each pair of a token of the pack and one of its longest example."""

    def peak_bytes(self, tokens: int, longest: int) -> int:
        """Return the peak of live bytes for a pack of `tokens` tokens whose longest example has `longest`."""
        slope_M = self.per_token_M + self.per_pair_M * longest
        return int(np.max(self.fixed_M + slope_M * tokens))


def growth(sizes: Sequence[int], passes: Sequence[LiveBytes]) -> Growth:
    """Fit the growth of live bytes to passes over one example of each of three sizes, in ascending order."""
    live_M3 = _aligned([counted.moments for counted in passes])
    (small, middle, large), (first, second, third) = sizes, live_M3.T
    # Newton's divided differences; each pass has one example, so T = L.
    rise = (third - second) / (large - middle)
    bend = (rise - (second - first) / (middle - small)) / (large - small)
    # Sublinear growth (work in chunks) is extrapolated with the last slope.
    per_pair = np.maximum(bend, 0)
    per_token = rise - per_pair * (large + middle)
    return Growth(third - per_token * large - per_pair * large**2, per_token, per_pair)


def _aligned(passes: Sequence[Sequence[tuple[object, int]]]) -> Bytes:
    """Return the live bytes (M, 3) of corresponding moments.

    Passes may differ in the middle, where a loop over chunks or experts ran more often. Between their common beginning
    and their common end, only the highest moment of each pass is kept.
    """
    front = _alike(passes)
    rest = [moments[front:] for moments in passes]
    back = _alike([moments[::-1] for moments in rest])
    begun = [[live for _, live in moments[:front]] for moments in passes]
    between = [[live for _, live in moments[: len(moments) - back]] for moments in rest]
    ended = [[live for _, live in moments[len(moments) - back :]] for moments in rest]
    parts = [
        [*first, max(middle, default=0), *last]
        for first, middle, last in zip(begun, between, ended, strict=True)
    ]
    return np.array(parts, dtype=np.float64).T


def _alike(passes: Sequence[Sequence[tuple[object, int]]]) -> int:
    """Return the length of the longest common prefix of operations."""
    names = zip(*([operation for operation, _ in moments] for moments in passes), strict=False)
    return sum(1 for _ in takewhile(lambda same: len(set(same)) == 1, names))


def run_counted(run: Callable[[], None], device: torch.device) -> LiveBytes:
    """Call `run` and return its recorded live bytes."""
    counted = LiveBytes(device.type)
    with counted:
        run()
    return counted
