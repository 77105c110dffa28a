"""Commands in processes of their own, and signals sent to them at a moment chosen beforehand."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SCRIPT = Path(__file__).with_name("interrupted_command.py")
HANG_SECONDS = 900
VARYING = re.compile(r"[0-9a-f]{12,}|\d{8}")
"""What is not the same in the names of two equal runs: hashes of paths, and steps."""


@dataclass(frozen=True)
class Case:
    """A command line that is interrupted; paths in it are of the folder that it is run in."""

    words: tuple[str, ...]
    result: str = ""
    """What the command writes, as a pattern of files that are the same whenever it is run."""
    prepare: Callable[[Path], None] = lambda _: None
    """Makes what has to lie in the folder beforehand."""
    run: str = ""
    """The run's folder, where what was begun can be resumed; else the same command is typed again."""
    typed: str = ""
    waits: bool = False
    """Whether the input stays open behind what was typed, until the signal was sent."""
    path: str = ""
    """A folder of packages to be found before all others."""


@dataclass(frozen=True)
class Moment:
    """When which signals are sent."""

    signals: tuple[str, ...]
    kind: str = ""
    """Whether events of the command are counted (a file opened, a module run), or only those that change files."""
    number: int = 0
    """Which of them; 0 is the command's very beginning."""
    seconds: float = 0.0
    """How long after that."""

    def __str__(self) -> str:
        after = f"{self.kind} {self.number}" if self.number else "the beginning"
        return f"{' '.join(self.signals)} {self.seconds:.4f} s after {after}"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    shown: str
    counts: Mapping[str, int]
    """How many events of each kind it had; empty where it did not tell, as one that was killed cannot."""
    seconds: float
    """From the beginning of the command line's own code to the end of the process."""
    left_processes: bool
    """Whether processes that it began were still there."""


class Server:
    """A process that has imported everything; the commands it runs begin where the imports of others end."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_surroundings({}, ""),
        )

    def run(self, place: Place, words: Sequence[str], moment: Moment | None = None) -> Ended:
        """Run a command to its end; where a moment is given, its signals are sent then."""
        assert self._process.stdin is not None and self._process.stdout is not None
        shown, typed, told = (place.root / name for name in ("shown", "typed", "told"))
        typed.write_text(place.case.typed, encoding="utf-8")
        os.mkfifo(told)
        job = {
            "words": list(words),
            "folder": str(place.work),
            "surroundings": place.own,
            "path": place.case.path,
            "streams": [str(typed), str(shown), str(shown)],
            "told": str(told),
            "moment": [moment.kind, moment.number] if moment else ["", 0],
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        number = int(self._process.stdout.readline())
        with told.open("rb", buffering=0) as telling:
            telling.read(1)
            began = time.monotonic()
            if moment is not None:
                _interrupt(number, moment, telling.fileno())
            code = int(self._process.stdout.readline())
            seconds = time.monotonic() - began
            counts = _counts(telling.read(1000))
        text = shown.read_text(encoding="utf-8", errors="replace")
        for path in (shown, typed, told):
            path.unlink()
        return Ended(code, text, counts, seconds, _is_left(number))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(HANG_SECONDS)


class Place:
    """A folder for one command: what it runs in, its cache, and its temporary files."""

    def __init__(self, root: Path, case: Case) -> None:
        self.root, self.case = root, case
        self.work = root / "work"
        self.own = {"WEITIAO_HOME": str(root / "home"), "TMPDIR": str(root / "tmp")}
        for folder in (self.work, *map(Path, self.own.values())):
            folder.mkdir(parents=True)
        case.prepare(self.work)
        self._before = self._paths()

    def _paths(self) -> set[str]:
        found = [path for path in self.root.rglob("*") if not path.name.endswith("lock")]
        # Python itself tries out whether it can write temporary files, and Ctrl-C may leave its trial.
        tried = {
            path
            for path in found
            if path.is_file() and path.stat().st_size == 4 and path.read_bytes() == b"blat"
        }
        return {VARYING.sub("#", str(path.relative_to(self.root))) for path in found if path not in tried}

    def written(self) -> set[str]:
        """Return the paths of all that has come since the beginning, locks left out."""
        return self._paths() - self._before

    def result(self) -> dict[str, bytes]:
        """Return the files that the command is for."""
        found = self.work.glob(self.case.result) if self.case.result else ()
        return {str(path.relative_to(self.work)): path.read_bytes() for path in found if path.is_file()}

    def run(self, moment: Moment | None = None) -> Ended:
        """Run the case's command to its end; where a moment is given, its signals are sent then."""
        with ExitStack() as stack:
            told, typed = _Pipe(stack), _Pipe(stack)
            shown = stack.enter_context(tempfile.TemporaryFile())
            wanted = (moment.kind, str(moment.number)) if moment else ("", "0")
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(told.write), *wanted, *self.case.words],
                stdin=typed.read,
                stdout=shown,
                stderr=shown,
                cwd=self.work,
                env=_surroundings(self.own, self.case.path),
                pass_fds=(told.write,),
                start_new_session=True,
            )
            stack.callback(_kill_all, process.pid)
            told.close_write()
            os.write(typed.write, self.case.typed.encode())
            if not self.case.waits or moment is None:
                typed.close_write()
            os.read(told.read, 1)  # the command's own code begins
            began = time.monotonic()
            if moment is not None:
                _interrupt(process.pid, moment, told.read)
            typed.close_write()
            code = process.wait(HANG_SECONDS)
            seconds = time.monotonic() - began
            left = _is_left(process.pid)
            shown.seek(0)
            counts = _counts(os.read(told.read, 1000))
            text = shown.read().decode("utf-8", "replace")
            return Ended(code, text, counts, seconds, left)


class _Pipe:
    """A pipe that is closed with the stack, where it is written to earlier if asked."""

    def __init__(self, stack: ExitStack) -> None:
        self.read, self.write = os.pipe()
        self._open = True
        stack.callback(os.close, self.read)
        stack.callback(self.close_write)

    def close_write(self) -> None:
        if self._open:
            os.close(self.write)
        self._open = False


def _surroundings(own: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the environment of a command: one thread, and the packages that this process finds."""
    paths = os.pathsep.join(filter(None, dict.fromkeys([path, *sys.path])))
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **own, "PYTHONPATH": paths}


def _interrupt(group: int, moment: Moment, told: int) -> None:
    """Send a moment's signals when it has come, two of them within 10 ms."""
    if moment.number:
        os.read(told, 1)
    time.sleep(moment.seconds)
    between = random.Random(moment.number)
    for number, name in enumerate(moment.signals):
        if number:
            time.sleep(between.uniform(0, 0.01))
        with suppress(ProcessLookupError):
            # A terminal sends Ctrl-C to all that a command has begun.
            (os.killpg if name == "SIGINT" else os.kill)(group, signal.Signals[name])


def _counts(told: bytes) -> dict[str, int]:
    """Return what a command told last."""
    found = re.search(rb"{.*}", told)
    return dict(json.loads(found[0])) if found else {}


def _is_left(group: int) -> bool:
    """Whether processes of a group are there for longer than it takes them to notice their parent's end."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def _kill_all(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


OPERATIONS = ("open", "os.chmod", "os.mkdir", "os.rename", "shutil.rmtree")


class _Countdown:
    """An audit hook, which stays for ever, and raises only while it is set."""

    def __init__(self) -> None:
        self.left, self.folder = 0, ""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.left and event in OPERATIONS and self.folder in str(arguments[0]):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


_countdown = cache(_Countdown)


def ctrl_c_everywhere(folder: Path, work: Callable[[], object]) -> Iterator[None]:
    """Do some work again and again, stopped at its first operation on a file under `folder`, at its second, ...

    Yields after each of them, and ends with the one that nothing stopped.
    """
    countdown, number, stopped = _countdown(), 0, True
    while stopped:
        number += 1
        countdown.left, countdown.folder = number, str(folder)
        try:
            work()
            stopped = False
        except KeyboardInterrupt:
            pass
        finally:
            countdown.left = 0
        if stopped:  # and the exception gone, with all that it kept alive
            yield
