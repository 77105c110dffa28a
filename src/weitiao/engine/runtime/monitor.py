"""CPU, memory and GPU use beside the loss."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import psutil
import torch


@dataclass(frozen=True)
class Usage:
    """One reading of the machine; the GPU's numbers are None where none is used."""

    memory_bytes: int
    """Resident memory of this process now."""
    cpu_percent: float
    """CPU use of this process since the last reading; 200 is two full cores."""
    gpu_memory_bytes: int | None = None
    """Memory that tensors hold on the GPU."""
    gpu_percent: float | None = None
    """Share of the time the GPU was busy; None without nvidia-ml-py, and for a GPU that does not say, as a part of one
    (MIG)."""

    def as_fields(self) -> dict[str, float | int | None]:
        """Return the reading as fields of an event."""
        return asdict(self)


class Monitor:
    """Reads the use of this process; the first reading of the CPU is 0."""

    def __init__(self) -> None:
        """Start counting CPU time."""
        self._process = psutil.Process()
        self._process.cpu_percent()

    def read(self) -> Usage:
        """Return the use now."""
        memory_bytes = self._process.memory_info().rss
        cpu_percent = self._process.cpu_percent()
        if not torch.cuda.is_available():
            return Usage(memory_bytes, cpu_percent)
        return Usage(memory_bytes, cpu_percent, torch.cuda.memory_allocated(), _gpu_percent())


def _gpu_percent() -> float | None:
    try:
        from pynvml import NVMLError
    except ModuleNotFoundError:  # nvidia-ml-py is an extra
        return None
    try:
        return float(torch.cuda.utilization())
    except (NVMLError, RuntimeError):  # no reading is worth a run
        return None


def peak_memory_bytes() -> int:
    """Return the highest resident memory of this process so far."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
