"""The lock of a folder: one process at a time may write to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import Problem, RunFolderError
from .files import PRIVATE_FOLDER

LOCK = ".lock"
ATTEMPTS = 20
"""Tries to take the lock while other processes remove the folder or the lock."""


@contextmanager
def locked_folder(root: Path) -> Iterator[None]:
    """Lock a folder, creating it if needed, against a second process; the lock ends with the process.

    If the folder is empty at the end, the lock and the folders created here are removed. Raises RunFolderError if
    another process holds the lock or the folder cannot be made.
    """
    lock, made = _taken(root)
    try:
        yield
    finally:
        try:
            _take_away(root, made)
        finally:
            lock.release()


def _taken(root: Path) -> tuple[FileLock, list[Path]]:
    """Take the lock; try again if another process removes the folder or the lock at that moment.

    Returns it with the folders that were created for it, the deepest first.
    """
    for _ in range(ATTEMPTS):
        made = [folder for folder in (root, *root.parents) if not folder.exists()]
        lock = _try(root)
        if lock is not None:
            return lock, made
    raise RunFolderError(_in_use(root))


def _try(root: Path) -> FileLock | None:
    """Return the lock, or None if its file has been removed meanwhile; raises RunFolderError."""
    path = root / LOCK
    lock = FileLock(path, timeout=0)
    try:
        _make(root)
        lock.acquire()
    except Timeout as error:
        if not path.exists():  # its holder has just removed it
            return None
        raise RunFolderError(_in_use(root)) from error
    except FileNotFoundError:
        return None
    except OSError as error:  # a folder, a link or another user's file of this name
        what = f"the run's lock cannot be taken: {error.strerror}"
        raise RunFolderError(
            Problem(what, str(path), "an ordinary file that you may write", "--out RUN")
        ) from error
    if path.exists():
        return lock
    lock.release()
    return None


def _make(root: Path) -> None:
    try:
        root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except FileNotFoundError:  # another process has just removed a parent folder
        raise
    except FileExistsError as error:
        if all(folder.is_dir() for folder in (root, *root.parents) if folder.exists()):
            # It existed when mkdir ran and another process has removed it since: report it missing, to try again.
            raise FileNotFoundError(error.errno, error.strerror, error.filename) from error
        raise RunFolderError(_cannot_be_made(root, error)) from error
    except OSError as error:
        raise RunFolderError(_cannot_be_made(root, error)) from error


def _cannot_be_made(root: Path, error: OSError) -> Problem:
    what = f"the output folder cannot be made: {error.strerror}"
    return Problem(what, str(root), "a folder you may write to", "--out RUN")


def _in_use(root: Path) -> Problem:
    return Problem(
        "another process is writing to this run",
        str(root),
        "one process per run",
        "wait for it, or choose another --out",
    )


def _take_away(root: Path, made: Sequence[Path]) -> None:
    """Remove the lock and the folders made for it if they are empty; the lock is still held, so that a process that
    takes it next sees that its file is gone."""
    with suppress(OSError):  # another process has begun to use a folder, or it is gone
        if any(path.name != LOCK for path in root.iterdir()):
            return
        (root / LOCK).unlink()
        for folder in made:
            folder.rmdir()
