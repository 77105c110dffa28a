"""Runs the CPU's fp32 matrix products on oneDNN where MKL is slow.

torch uses MKL for them. On a processor not made by Intel (measured on a Zen 5) MKL reaches 220 GFLOP/s and oneDNN 490;
MKL sums 152,000 numbers with fifteen times oneDNN's error; and its last bits depend on an operand's offset in a memory
page, so runs are not reproducible bit for bit. oneDNN is part of the same wheel. torch stays with MKL because oneDNN
was "still not faster than MKL" for fp32, on Intel processors (https://github.com/pytorch/pytorch/pull/91763).
Once torch chooses by processor, this file can be deleted.

`products_from` replaces the CPU kernels of aten::mm, addmm and bmm (and the `out` variants of the first two, which
compiled code calls), registered with `torch.library` like those of any extension. The operation that calls oneDNN is
the internal one torch.compile uses (torch 2.13), so it is looked up and tested before use.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import DispatchKeySet, Tensor
from torch.library import Library, get_kernel

from ...core.errors import Problem, SettingsError
from .settings import Matmul

INTEL = "GenuineIntel"
X86 = ("x86_64", "amd64")
CPU_INFO = Path("/proc/cpuinfo")

# oneDNN caches the code generated for the last 1024 shapes, nearly 1 MiB each, and every pack brings new shapes: some
# 30 for its blocks, which share them, and as many for attention. oneDNN reads the variable at its first call; a value
# the user has set is kept. https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html
for _cache in (
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
    "LRU_CACHE_CAPACITY",
):  # the second: torch's own cache of its oneDNN calls
    os.environ.setdefault(_cache, "128")


@cache
def processor_vendor() -> str:
    """Return the processor's vendor string: GenuineIntel, AuthenticAMD, ...; "" if unknown."""
    if CPU_INFO.is_file():
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
    return platform.processor().rpartition(",")[2].strip()  # Windows: "AMD64 Family 26 ..., AuthenticAMD"


def uses_onednn(choice: Matmul) -> bool:
    """Return whether a choice means oneDNN on this machine: `auto` does on x86 processors not made by Intel."""
    if choice == "mkl" or not onednn_is_here():
        return False
    is_x86 = platform.machine().lower() in X86
    return choice == "onednn" or (is_x86 and processor_vendor() not in ("", INTEL))


def require_onednn(choice: Matmul) -> None:
    """Raise SettingsError if oneDNN is requested and this torch does not have it."""
    if choice == "onednn" and not onednn_is_here():
        raise SettingsError(
            Problem(
                "this build of torch has no oneDNN",
                "train.matmul=onednn",
                "a torch built with oneDNN (mkldnn)",
                "train.matmul=auto",
            )
        )


@cache
def onednn_is_here() -> bool:
    """Return whether this torch has the oneDNN operation and it gives correct products, with and without a bias."""
    built_in: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not built_in or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    a, b, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(3, 4), torch.ones(4)
    try:
        return torch.equal(multiply(a, b), a @ b) and torch.equal(multiply(a, b, bias), a @ b + bias)
    except (RuntimeError, TypeError):  # another torch version, in which the operation differs or is missing
        return False


def multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a @ b + bias for a (m, k), b (k, n), bias (n,)."""
    weight = b.t()
    if not (b.is_contiguous() or weight.is_contiguous()):
        weight = weight.contiguous()  # for a slice oneDNN uses its reference kernel, 500 times slower
    return linear_pointwise()(a, weight, bias, "none", [], "")


def linear_pointwise() -> Callable[..., Tensor]:
    """Return the oneDNN operation: input @ weight.T + bias, without a fused activation ("none")."""
    operation: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default
    return operation


def _takes(a: Tensor, b: Tensor) -> bool:
    """Return whether two operands are fp32 matrices of matching sizes; torch itself handles or rejects all others."""
    fits = a.dim() == b.dim() == 2 and a.shape[1] == b.shape[0] and a.shape[1] > 0
    return fits and a.dtype is b.dtype is torch.float32


def _batch_by_one(a: Tensor, b: Tensor) -> Tensor:
    return multiply(a.reshape(-1, a.shape[2]), b).view(*a.shape[:2], b.shape[1])


class _Override:
    """Registers the oneDNN kernels while the context entered last wants them; process-wide, shared by all threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entered: list[bool] = []
        self._library: Library | None = None

    def enter(self, ours: bool) -> None:
        with self._lock:
            self._entered.append(ours)
            self._follow()

    def leave(self, ours: bool) -> None:
        with self._lock:
            # Remove the last entry of this kind: another thread may have entered a context since.
            del self._entered[-1 - self._entered[::-1].index(ours)]
            self._follow()

    def _follow(self) -> None:
        if not (self._entered and self._entered[-1]):
            self._library = None  # deleting the Library ends its registrations
        elif self._library is None:
            self._library = _registered()

    @property
    def active(self) -> bool:
        """Whether products come from oneDNN."""
        return self._library is not None


def _added_product(added: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> Tensor | None:
    """Return added + a @ b; None if the case is not for oneDNN."""
    if beta != 1 or alpha != 1 or added.dtype is not torch.float32 or not _takes(a, b):
        return None
    if added.dim() == 1 and len(added) == b.shape[1]:
        return multiply(a, b, added)
    return multiply(a, b).add_(added) if added.shape == (len(a), b.shape[1]) else None


def _fits(out: Tensor, a: Tensor, b: Tensor) -> bool:
    return out.dtype is torch.float32 and out.shape == (len(a), b.shape[1])


def _kernels() -> dict[str, Callable[..., Any]]:
    """Return the kernels by operation name; cases not for oneDNN go to the previous kernel."""
    names = ("mm", "mm.out", "addmm", "addmm.out", "bmm")
    mm, mm_out, addmm, addmm_out, bmm = (get_kernel(f"aten::{name}", "CPU").call_boxed for name in names)

    def our_mm(keys: DispatchKeySet, a: Tensor, b: Tensor) -> Any:  # noqa: ANN401
        return multiply(a, b) if _takes(a, b) else mm(keys, a, b)

    def our_mm_out(keys: DispatchKeySet, a: Tensor, b: Tensor, *, out: Tensor) -> Any:  # noqa: ANN401
        takes = _takes(a, b) and _fits(out, a, b)
        return out.copy_(multiply(a, b)) if takes else mm_out(keys, a, b, out=out)

    def our_addmm(
        keys: DispatchKeySet, added: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Any:  # noqa: ANN401
        made = _added_product(added, a, b, beta, alpha)
        return addmm(keys, added, a, b, beta=beta, alpha=alpha) if made is None else made

    def our_addmm_out(
        keys: DispatchKeySet,
        added: Tensor,
        a: Tensor,
        b: Tensor,
        *,
        beta: float = 1,
        alpha: float = 1,
        out: Tensor,
    ) -> Any:  # noqa: ANN401
        made = _added_product(added, a, b, beta, alpha)
        if made is None or not _fits(out, a, b):
            return addmm_out(keys, added, a, b, beta=beta, alpha=alpha, out=out)
        return out.copy_(made)

    def our_bmm(keys: DispatchKeySet, a: Tensor, b: Tensor) -> Any:  # noqa: ANN401
        # A batch with one broadcast matrix: torch uses mm for it if gradients are needed, and bmm if not.
        if a.dim() == b.dim() == 3 and len(a) == len(b) > 0 and _takes(a[0], b[0]):
            if b.stride(0) == 0:
                return _batch_by_one(a, b[0])
            if a.stride(0) == 0:
                return _batch_by_one(b.mT, a[0].t()).mT.contiguous()
        return bmm(keys, a, b)

    return dict(zip(names, (our_mm, our_mm_out, our_addmm, our_addmm_out, our_bmm), strict=True))


def _registered() -> Library:
    library = Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel", UserWarning)
        for name, kernel in _kernels().items():
            library.impl(name, kernel, "CPU", with_keyset=True, allow_override=True)  # type: ignore[no-untyped-call]
    return library


_OVERRIDE = _Override()


def onednn_in_use() -> bool:
    """Return whether fp32 products currently come from oneDNN."""
    return _OVERRIDE.active


@contextmanager
def products_from(choice: Matmul) -> Iterator[None]:
    """Within the context, fp32 matrix products on the CPU come from the chosen library.

    If torch has no oneDNN, or its operation differs from the known one, they come from MKL. With nested contexts the
    inner one decides.
    """
    ours = uses_onednn(choice)
    _OVERRIDE.enter(ours)
    try:
        yield
    finally:
        _OVERRIDE.leave(ours)
