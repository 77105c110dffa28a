"""What each side of a benchmark measures of itself: when each step ended, its loss, and the memory it took."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

CLEAR_PEAK = "5"
"""Written to clear_refs it makes the kernel forget the peak so far (Linux; see `man 5 proc`)."""
START_FIELD = 19
"""When the process started, in ticks since boot, in /proc/PID/stat behind the name (`man 5 proc`)."""


class Meter:
    """Collects one run's numbers; `begin` is called with the model loaded, `step` at the end of each step."""

    def __init__(self) -> None:
        self._loaded_bytes = 0
        self._peak_before_bytes = 0
        self._peak_bytes = 0
        self._begun = 0.0
        self._first_step_seconds = 0.0
        self._ends: list[float] = []
        self._losses: list[float] = []

    def begin(self) -> None:
        """Note the memory that the loaded model takes, and measure time and the peak from here on."""
        self._peak_before_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Path("/proc/self/clear_refs").write_text(CLEAR_PEAK, encoding="ascii")
        self._loaded_bytes = _status_bytes("VmRSS")
        self._begun = time.perf_counter()

    def step(self, loss: float) -> None:
        """Note the end of a step."""
        self._ends.append(time.perf_counter())
        self._losses.append(loss)
        self._peak_bytes = _status_bytes("VmHWM")
        if len(self._ends) == 1:
            self._first_step_seconds = _seconds_since_start()

    def loss(self, loss: float) -> None:
        """Put in the last step's loss, where it is known only after the step."""
        self._losses[-1] = loss

    def write(self, path: Path, real_tokens: list[int]) -> None:
        """Write the numbers; the first step is warming up and not timed. `real_tokens` is per step, unpadded.

        Where a side cuts the rows into other steps than these, its first step is taken to be as long as the others.
        """
        seconds, steps = self._ends[-1] - self._ends[0], len(self._ends)
        same = steps == len(real_tokens)
        timed_tokens = sum(real_tokens[1:]) if same else sum(real_tokens) * (steps - 1) / steps
        measured = {
            "tokens_per_second": timed_tokens / seconds,
            "seconds_per_step": seconds / (steps - 1),
            "timed_seconds": seconds,
            "training_seconds": self._ends[-1] - self._begun,
            "first_step_seconds": self._first_step_seconds,
            "loaded_bytes": self._loaded_bytes,
            "peak_bytes": max(self._peak_before_bytes, self._peak_bytes),
            "training_peak_bytes": self._peak_bytes,
            "training_growth_bytes": self._peak_bytes - self._loaded_bytes,
            "losses": self._losses,
        }
        path.write_text(json.dumps(measured), encoding="utf-8")


def _status_bytes(field: str) -> int:
    """Return one of the kernel's figures of this process's memory."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _seconds_since_start() -> float:
    """Return how long this process has been there, its imports included."""
    behind_name = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    started = int(behind_name[START_FIELD]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
