"""Measures CPU, memory and GPU use, to log next to the loss."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import psutil
import torch


@dataclass(frozen=True)
class Usage:
    """One measurement; the GPU's numbers are None without CUDA."""

    memory_bytes: int
    """Resident memory of this process now."""
    cpu_percent: float
    """CPU use of this process since the last measurement, in percent; 200 is two full cores."""
    gpu_memory_bytes: int | None = None
    """GPU memory allocated by tensors."""
    gpu_percent: float | None = None
    """Percent of the time the GPU was busy; None without nvidia-ml-py, and for GPUs that do not report it, such as MIG
    slices."""

    def as_fields(self) -> dict[str, float | int | None]:
        """Return the measurement as fields of an event."""
        return asdict(self)


class Monitor:
    """Measures the resource use of this process."""

    def __init__(self) -> None:
        """Start counting CPU time."""
        self._process = psutil.Process()
        self._process.cpu_percent()

    def read(self) -> Usage:
        """Return the current resource use."""
        memory_bytes = self._process.memory_info().rss
        cpu_percent = self._process.cpu_percent()
        if not torch.cuda.is_available():
            return Usage(memory_bytes, cpu_percent)
        return Usage(memory_bytes, cpu_percent, torch.cuda.memory_allocated(), gpu_percent())


def gpu_percent() -> float | None:
    """Return the percent of the time the GPU was busy; None if it cannot be read."""
    try:
        from pynvml import NVMLError
    except ModuleNotFoundError:  # nvidia-ml-py is an extra
        return None
    try:
        return float(torch.cuda.utilization())
    except (NVMLError, RuntimeError):  # a failed measurement must not stop the run
        return None


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # not available on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
