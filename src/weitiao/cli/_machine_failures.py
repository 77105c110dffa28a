"""Turns failures of the machine into errors for a person: memory, disk, files that cannot be read or written."""

from __future__ import annotations

import sys

from ..core.errors import Problem, ResourceError, WeitiaoError
from ..core.files import failed_file


def failure_of_the_machine(error: OSError | MemoryError | RuntimeError) -> WeitiaoError | None:
    """Return an error for a person if the machine failed (memory, disk, files); None for a fault in weitiao itself."""
    if isinstance(error, OSError):
        return failed_file(error)
    return _memory_is_full(error) if _is_out_of_memory(error) else None


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Return whether memory ran out; a process that has not imported torch can only see Python's MemoryError."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from ..engine.memory.oom import is_out_of_memory

    return is_out_of_memory(error)


def _memory_is_full(error: MemoryError | RuntimeError) -> ResourceError:
    """Return the error for running out of memory where nothing smaller could be tried; saved steps are safe."""
    said = str(error).partition("\n")[0] or "an allocation failed"
    remedy = "close other programs and repeat the command, or weitiao train --resume RUN"
    return ResourceError(Problem("not enough memory", said, "free memory", remedy))
