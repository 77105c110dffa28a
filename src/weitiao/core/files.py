"""Crash-safe writing: a crash at any moment leaves the old content or the new, never half a file."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from .errors import Problem, ResourceError, RunFolderError, WeitiaoError
from .units import readable_bytes

PART = ".part"
"""Suffix of files and folders that are still being written."""
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
"""Modes for what quotes a person's rows: only its owner may read it."""


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable (no effect on Windows, where folders cannot be opened)."""
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


def write_atomic(path: Path, content: bytes | str, mode: int = 0o666) -> None:
    """Write a file through a temporary sibling, fsync and rename, with `mode` as in `open(2)`; raises OSError."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    _remove_parts_of_the_killed(path)
    staged = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, value: Any, mode: int = 0o666) -> None:  # noqa: ANN401  (any JSON value)
    """Write a JSON file atomically, UTF-8, indented; raises ValueError for NaN and inf."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n", mode)


def read_json_object(path: Path, error: type[WeitiaoError]) -> dict[str, Any]:
    """Read a JSON file that holds an object; raises `error` if it cannot be read or holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as cause:
        got = cause.strerror if isinstance(cause, OSError) else f"{type(cause).__name__}: {cause}"
        raise error(Problem(f"{path.name} cannot be read", f"{path} ({got})", "a JSON file")) from cause
    if not isinstance(value, dict):
        what = f"{path.name} is not a JSON object"
        raise error(Problem(what, f"{path} holds a {type(value).__name__}", "keys and values in {}"))
    return value


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def existing_parent(folder: Path) -> Path:
    """Return the folder itself, or its nearest parent that exists."""
    return next(p for p in [folder, *folder.parents] if p.exists())


def need_disk(
    folder: Path, needed_bytes: int, purpose: str, remedy: str = "free some space, or choose another --out"
) -> None:
    """Raise ResourceError if the disk of `folder` has less than `needed_bytes` free."""
    existing = existing_parent(folder)
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise ResourceError(
            Problem(
                f"too little disk for {purpose}",
                f"{readable_bytes(free_bytes)} free at {existing}",
                f"{readable_bytes(needed_bytes)}",
                remedy,
            )
        )


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def failed_file(error: OSError, path: Path | None = None, step: int | None = None) -> WeitiaoError:
    """Turn an OSError into an error for a person: ResourceError where the disk is full, else RunFolderError."""
    where = str(error.filename or path or "a file") + (f", step {step}" if step is not None else "")
    if error.errno in FULL:
        remedy = "free some space, then repeat the command, or weitiao train --resume RUN"
        return ResourceError(Problem(f"the disk is full: {error.strerror}", where, "free space", remedy))
    what = f"a file cannot be used: {error.strerror or error}"
    return RunFolderError(Problem(what, where, "a file or folder that you may read and write"))


OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How Rust libraries write a file-system error into their messages: `No space left on device (os error 28)`."""


@dataclass(frozen=True)
class saving:
    """Context that turns errors of writing files under `path` into errors for a person: see `failed_file`.

    `step` is the training step whose state is saved. safetensors raises its own error type and tokenizers a bare
    `Exception`, which no except clause can single out, so both are recognised by the error number in their message.
    """

    path: Path
    step: int | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> Literal[False]:
        if isinstance(error, OSError):
            raise failed_file(error, self.path, self.step) from error
        in_rust = kind is Exception or (kind is not None and kind.__name__ == "SafetensorError")
        number = OS_ERROR.search(str(error)) if in_rust else None
        if number is not None:
            cause = OSError(int(number[1]), os.strerror(int(number[1])))
            raise failed_file(cause, self.path, self.step) from error
        return False


def _usual_mode() -> int:
    """Return the mode that a plain `open` gives a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _is_alive(pid: str) -> bool:
    """Return whether a process with this number runs; False for text that is not a number."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except OSError:  # the process belongs to another user
        return True
    return True


def _remove_parts_of_the_killed(path: Path) -> None:
    """Remove unfinished copies of a file or folder left by processes that no longer run."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        if _is_alive(left.name.removesuffix(PART).rpartition(".")[2].partition("-")[0]):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder to fill; it is renamed to `folder` once durable, and removed on failure.

    Several processes may prepare the same folder: the first to finish takes the name, the others get an OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_parts_of_the_killed(folder)
    # The name is fixed before the folder exists, so that Ctrl-C right after `mkdir` can still remove it.
    staging = folder.with_name(f".{folder.name}.{os.getpid()}-{token_hex(4)}{PART}")
    try:
        staging.mkdir()
        yield staging
        for path in [*staging.rglob("*"), staging]:
            if path.is_dir():
                sync_folder(path)
            else:
                path.chmod(_usual_mode())  # safetensors creates files that only their owner can read
                sync_file(path)
        staging.replace(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def cache_home() -> Path:
    """Return the cache folder: $WEITIAO_HOME, or ~/.cache/weitiao."""
    return Path(os.environ.get("WEITIAO_HOME") or Path.home() / ".cache" / "weitiao")
