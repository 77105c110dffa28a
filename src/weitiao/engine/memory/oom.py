"""Recognises out-of-memory errors: for a GPU torch has a type of its own, for the CPU only words.

What oneDNN says ("could not create a primitive") is not among them: it says the same of other failures, and after one
makes nothing new in that thread (measured with torch 2.13), so that a smaller pack would fail as well.
"""

from __future__ import annotations

import torch

MAY_SAY_SO = (RuntimeError, MemoryError)
"""The types to catch, and to ask `is_out_of_memory` about; torch.OutOfMemoryError is a RuntimeError."""

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""torch's allocator of the CPU, which says "can't allocate memory: you tried to allocate ...", on Windows "not enough
memory: ..."."""
CPP_ALLOCATION = "std::bad_alloc"
"""All that torch says of an allocation in C++ outside of tensors."""
OUTSIDE_THE_ALLOCATOR = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
)
"""What is said where torch's allocator of the GPU has taken all there is, and CUDA, cuBLAS or Triton want some too."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that an allocation failed, and so nothing that smaller packs would not mend."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    if isinstance(error, RuntimeError) and any(sentence in said for sentence in OUTSIDE_THE_ALLOCATOR):
        return True
    return type(error) is RuntimeError and (CPU_ALLOCATOR in said or said == CPP_ALLOCATION)
