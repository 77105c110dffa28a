"""A cache of the gate's results, addressed by content: the same data with the same settings is not processed again.

The name of an entry is a hash of everything that determines its content: the content of the files, the settings, the
tokenizer with its template, the seed, and the code of this package. Any change gives another name, so a stale entry is
never used. An entry lists the sha256 of its files; if a file on disk has changed, the entry is made again. When the
cache exceeds `MOST_BYTES`, the least recently used entries are removed.

Several processes may fill and read the cache at once. Adding or removing an entry holds the cache's lock, and no entry
used within the last hour is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from filelock import FileLock

from ...core.files import PRIVATE_FILE, PRIVATE_FOLDER, cache_home, sha256_of, sync_file, sync_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_BYTES = 20 * 2**30
LEFT_SECONDS = 3 * 24 * 3600
"""Unfinished folders not written to for this long were left by a killed process."""
MAKING = ".making-"
DECIDING = ("jinja2", "numpy", "pyarrow", "tokenizers", "transformers")
"""Packages whose version can change the resulting rows and tokens."""
CODE = ("core", "data")
"""Folders of weitiao's code that can change them."""
IN_USE_SECONDS = 3600
"""An entry used within the last hour may be about to be read by another process."""
CONTENT_FILE = "content.json"
"""Lists the sha256 of the other files and is written last: an entry is complete if it has this file and they match."""


@dataclass(frozen=True)
class Kept:
    """The folder of an entry; if it is not in the cache, it is deleted together with this object."""

    path: Path
    temporary: TemporaryDirectory[str] | None = None


def entry_name(parts: Iterable[str]) -> str:
    """Return the name of an entry: a hash of `parts` and of the code version."""
    digest = hashlib.sha256()
    for part in (code_version(), *parts):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:32]


@cache
def code_version() -> str:
    """Return a hash of the code that makes an entry and the versions of `DECIDING`: a change invalidates every entry.

    The code is this package and `core`, the only other one that it imports.
    """
    versions = [platform.python_version(), *(f"{name} {version(name)}" for name in DECIDING)]
    digest = hashlib.sha256("\n".join(versions).encode())
    package = Path(__file__).parents[2]
    for path in sorted(path for room in CODE for path in (package / room).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def tokenizer_version(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a text of everything that determines how a tokenizer encodes and renders."""
    backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else str(tokenizer.get_vocab())
    named = [tokenizer.special_tokens_map, str(tokenizer.init_kwargs)]
    return json.dumps([backend, tokenizer.chat_template, *named], default=str)


def cached_or_made(name: str | None, make: Callable[[Path], bool]) -> tuple[Kept, bool]:
    """Return an entry's folder and whether it was cached; if not, `make` fills a folder and returns whether to keep it.

    Without a name (data whose content cannot be hashed beforehand) the folder is temporary.
    """
    home = cache_home() / "data"
    if name is not None and _is_whole(home / name):
        with suppress(OSError):  # a read-only cache
            os.utime(home / name)
        return Kept(home / name), True
    temporary = TemporaryDirectory(prefix=MAKING, dir=_writable(home), ignore_cleanup_errors=True)
    folder = Path(temporary.name)
    if make(folder) and name is not None and folder.parent == home and _keep(folder, home / name):
        temporary.cleanup()
        return Kept(home / name), False
    return Kept(folder, temporary), False


def _writable(home: Path) -> Path | None:
    """Return the cache's folder, or None (meaning the system's temporary folder) if it is not writable."""
    try:
        home.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError:
        return None
    return home if os.access(home, os.W_OK) else None


def _is_whole(folder: Path) -> bool:
    """Return whether an entry's files have the names and hashes that they had when it was made."""
    try:
        wanted = json.loads((folder / CONTENT_FILE).read_bytes())
        return bool(wanted) and wanted == _hashes(folder)
    except (OSError, ValueError):
        return False


def _hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file except `CONTENT_FILE`; raises OSError."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != CONTENT_FILE}


def _keep(folder: Path, entry: Path) -> bool:
    """Move a finished folder to its entry; if another process was faster, its equal entry stays.

    Returns False if it could not be moved; it is then used where it is.
    """
    (folder / CONTENT_FILE).write_text(json.dumps(_hashes(folder)), encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(PRIVATE_FILE)
        sync_file(path)
    sync_folder(folder)
    try:
        with _locked(entry.parent):
            if not _is_whole(entry):
                _take_away(entry)  # a damaged one
                folder.rename(entry)
            sync_folder(entry.parent)
            _prune(entry.parent, keep=entry)
    except OSError:
        return _is_whole(entry)
    return True


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Lock the cache against other processes and threads that add or remove entries.

    Raises OSError if the lock file cannot be created.
    """
    with FileLock(home.with_name(f".{home.name}.lock")):
        yield


def _take_away(entry: Path) -> None:
    """Remove an entry, under the lock; it is renamed first, so that no reader finds a partly deleted entry."""
    gone = entry.with_name(f"{MAKING}{entry.name}-{os.getpid()}")
    if entry.is_file():
        entry.unlink()
    elif entry.is_dir():
        entry.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _prune(home: Path, keep: Path) -> None:
    """Remove folders left by killed processes, and the least recently used entries beyond `MOST_BYTES`."""
    entries: list[tuple[float, Path]] = []
    now = time.time()
    for folder in home.iterdir():
        with suppress(OSError):  # another process removed it
            used = folder.stat().st_mtime
            if (folder / CONTENT_FILE).is_file() and not folder.name.startswith(MAKING):
                entries.append((used, folder))
            elif folder.is_dir() and now - used > LEFT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    total = 0
    for used, entry in sorted(entries, reverse=True):
        with suppress(OSError):
            total += sum(path.stat().st_size for path in entry.iterdir())
        if total > MOST_BYTES and entry != keep and now - used > IN_USE_SECONDS:
            _take_away(entry)
