"""Free memory: of a GPU, or on the CPU the least that machine, container and process limits leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""File names in a cgroup of version 2 or 1: its limit, its usage, and the line of memory.stat that counts droppable
file cache; https://docs.kernel.org/admin-guide/cgroup-v2.html#memory."""


def free_memory_bytes(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device: GPU memory on CUDA, else main memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limits = [psutil.virtual_memory().available, *cgroup_free_bytes(), *_address_space_bytes()]
    return max(0, min(limits))


def cgroup_free_bytes(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Iterator[int]:
    """Yield the bytes each cgroup with a limit leaves to this process; nothing on systems without cgroups."""
    if not membership.is_file():
        return
    for line in membership.read_text(encoding="utf-8").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield from _groups_free_bytes(root, path, V2)
        elif "memory" in controllers.split(","):
            yield from _groups_free_bytes(root / "memory", path, V1)


def _groups_free_bytes(root: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Yield the bytes a cgroup and its parents leave; inside a container only the root may be visible."""
    limit_name, usage_name, droppable_name = names
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        limit = folder / limit_name
        if limit.is_file():
            allowed = limit.read_text(encoding="utf-8").strip()
            if allowed != "max":
                used = int((folder / usage_name).read_text(encoding="utf-8"))
                yield int(allowed) - used + _droppable_bytes(folder / "memory.stat", droppable_name)
        if folder == root:
            return


def _droppable_bytes(stat: Path, name: str) -> int:
    words = (line.split() for line in stat.read_text(encoding="utf-8").splitlines())
    return next((int(value) for key, value in words if key == name), 0)


def _address_space_bytes() -> Iterator[int]:
    """Yield the bytes `ulimit -v` leaves, if it is set."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms
