"""Writing files so that a crash at any moment leaves the old content or the new, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import Problem, ResourceError
from .units import readable_bytes


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable (no effect where folders cannot be opened, as on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file through a sibling, fsync and rename; raises OSError."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    staged = path.with_name(f".{path.name}.{os.getpid()}.part")
    with staged.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    staged.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  (any JSON value)
    """Write a JSON file atomically, UTF-8, indented; NaN is refused with ValueError."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def need_disk(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise ResourceError when the disk under `folder` has less free than `needed_bytes`."""
    existing = next(p for p in [folder, *folder.parents] if p.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise ResourceError(
            Problem(
                f"too little disk for {purpose}",
                f"{readable_bytes(free_bytes)} free at {existing}",
                f"{readable_bytes(needed_bytes)}",
                "free some space, or choose another --out",
            )
        )


def _usual_mode() -> int:
    """Return the mode that a plain `open` would give a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _is_filled(staging: Path) -> bool:
    """Whether the process that a staging folder is named after is alive, and so may still write into it."""
    number = staging.name.split(".")[-2]
    if not number.isdigit() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Yield a sibling folder to fill; it becomes `folder` by one rename once durable, or vanishes."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        if not _is_filled(left):
            shutil.rmtree(left, ignore_errors=True)
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    staging.mkdir(parents=True)
    try:
        yield staging
        for path in [*staging.rglob("*"), staging]:
            if path.is_dir():
                sync_folder(path)
            else:
                path.chmod(_usual_mode())  # safetensors makes files that only their owner can read
                sync_file(path)
        staging.replace(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def cache_home() -> Path:
    """Return the folder for what weitiao makes once and keeps: $WEITIAO_HOME, or ~/.cache/weitiao."""
    return Path(os.environ.get("WEITIAO_HOME") or Path.home() / ".cache" / "weitiao")
