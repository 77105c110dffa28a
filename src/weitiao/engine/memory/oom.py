"""Recognises out-of-memory errors. CUDA raises its own type; the CPU allocator only a RuntimeError with a message.

oneDNN's message ("could not create a primitive") is not among them: other failures give the same message, and after one
oneDNN creates no new primitives in that thread (measured with torch 2.13), so a smaller pack would fail too.
"""

from __future__ import annotations

import torch

MAY_SAY_SO = (RuntimeError, MemoryError)
"""The exception types to catch and pass to `is_out_of_memory`; torch.OutOfMemoryError is a RuntimeError."""

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""torch's CPU allocator. Its message: "can't allocate memory: you tried to allocate ...", on Windows "not enough
memory: ..."."""
CPP_ALLOCATION = "std::bad_alloc"
"""The whole message for a failed C++ allocation outside of tensors."""
OUTSIDE_THE_ALLOCATOR = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
)
"""Messages of CUDA, cuBLAS or Triton when torch's GPU allocator has left no memory for them."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a failed allocation, which smaller packs may avoid."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    if isinstance(error, RuntimeError) and any(sentence in said for sentence in OUTSIDE_THE_ALLOCATOR):
        return True
    return type(error) is RuntimeError and (CPU_ALLOCATOR in said or said == CPP_ALLOCATION)
