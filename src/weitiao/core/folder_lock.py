"""The lock of a folder that one process at a time may write to, and what is made for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import Problem, RunFolderError
from .files import PRIVATE_FOLDER

LOCK = ".lock"
ATTEMPTS = 20
"""How often the folder or the lock may be taken away by another process while it is being taken here."""


@contextmanager
def locked_folder(root: Path) -> Iterator[None]:
    """Hold a folder, made where there is none, against a second process; the lock dies with its process.

    Where nothing else lies there at the end, the lock and the folders made here are taken away again. Raises
    RunFolderError.
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
    """Take the lock, again where another process removed the folder or the lock at that moment.

    Returns it with the folders that were made for it, the deepest first.
    """
    for _ in range(ATTEMPTS):
        made = [folder for folder in (root, *root.parents) if not folder.exists()]
        lock = _try(root)
        if lock is not None:
            return lock, made
    raise RunFolderError(_in_use(root))


def _try(root: Path) -> FileLock | None:
    """Return the lock, None where it guards a file that is no longer there; raises RunFolderError."""
    path = root / LOCK
    lock = FileLock(path, timeout=0)
    try:
        _make(root)
        lock.acquire()
    except Timeout as error:
        if not path.exists():  # its holder has just taken it away
            return None
        raise RunFolderError(_in_use(root)) from error
    except FileNotFoundError:
        return None
    except OSError as error:  # a folder, a link or a file of another person's under this name
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
    except FileNotFoundError:  # another process has just taken a folder above away
        raise
    except FileExistsError as error:
        if all(folder.is_dir() for folder in (root, *root.parents) if folder.exists()):
            # There was one as it was to be made, which another process has taken away since.
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
        "one process a run",
        "wait for it, or choose another --out",
    )


def _take_away(root: Path, made: Sequence[Path]) -> None:
    """Remove the lock and the folders made for it, where nothing was put there; the lock is still held, so that a
    process which gets it afterwards sees that its file is gone."""
    with suppress(OSError):  # another process has begun to use a folder, or it is gone
        if any(path.name != LOCK for path in root.iterdir()):
            return
        (root / LOCK).unlink()
        for folder in made:
            folder.rmdir()
