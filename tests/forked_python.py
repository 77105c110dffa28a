"""Python command lines in processes that begin with the slow imports done: a server has done them, and forks.

`-c CODE`, `-m MODULE` and `FILE` run as in a process of their own: with their own environment, folder, streams and exit
code, to the end of the interpreter. Nothing of weitiao is imported beforehand. What a package reads from the
environment when it is imported, those that the server has imported have read from the server's.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

PRELOADED = (
    "torch",
    "peft",
    "transformers.models.llama.modeling_llama",
    "transformers.tokenization_utils_tokenizers",
    "pyarrow",
    "pydantic",
    "pytest",
)
FIRST_ENVIRONMENT = dict(os.environ)
"""What the tests were started with, and conftest.py set; no test has changed it yet."""
STREAMS = ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
"""Number, mode and treatment of what cannot be encoded, as Python opens its own."""


class PythonServer:
    """A process that has done the imports and runs command lines one after another, each in a child of its own.

    glibc has one arena there, as each further one holds 64 MiB of address space in store, which no limit counts.
    """

    def __init__(self, environment: Mapping[str, str], preloaded: Sequence[str] = PRELOADED) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, *preloaded],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": "", "MALLOC_ARENA_MAX": "1"},
        )

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        typed: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS` to its end; without `environment`, in that of this process. The input is a pipe."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            streams = [Path(place) / name for name in ("typed", "shown", "problems")]
            os.mkfifo(streams[0])
            job = {
                "arguments": list(arguments),
                "folder": str(folder or Path.cwd()),
                "environment": dict(os.environ if environment is None else environment),
                "streams": list(map(str, streams)),
            }
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            number = int(self._process.stdout.readline())
            try:
                with suppress(BrokenPipeError), streams[0].open("w", encoding="utf-8") as pipe:
                    pipe.write(typed)
                code = int(self._process.stdout.readline())
            except BaseException:  # pytest's time limit: the server goes on with the next
                os.kill(number, signal.SIGKILL)
                self._process.stdout.readline()
                raise
            shown, problems = (path.read_text(encoding="utf-8") for path in streams[1:])
        return subprocess.CompletedProcess([*arguments], code, shown, problems)

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@cache
def python_server() -> PythonServer:
    """Return the server that the tests of this process share."""
    server = PythonServer(FIRST_ENVIRONMENT)
    atexit.register(server.close)
    return server


def _serve() -> dict[str, Any] | None:
    """Fork a child for each job that is read, and write its number and then its exit code; a child returns its job."""
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            return dict(json.loads(line))
        print(number, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)
    return None


def _become(job: Mapping[str, Any]) -> None:
    """Give this process what a new one would have been started with."""
    for (number, mode, errors), path in zip(STREAMS, job["streams"], strict=True):
        opened = os.open(path, os.O_RDONLY if mode == "r" else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
        stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False, buffering=1)  # noqa: SIM115
        setattr(sys, ("stdin", "stdout", "stderr")[number], stream)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    importlib.invalidate_caches()


def _run(arguments: Sequence[str]) -> None:
    """Run what follows `python` on a command line."""
    kind, *rest = arguments
    sys.argv = [kind, *rest[1:]] if kind in ("-c", "-m") else [*arguments]
    sys.path.insert(0, {"-c": "", "-m": str(Path.cwd())}.get(kind, str(Path(kind).parent)))
    if kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    else:
        runpy.run_path(kind, run_name="__main__")


def _code_of(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; what it raised is shown."""
    try:
        _run(arguments)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001  (as Python itself does)
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """End as the interpreter does, but for taking apart every object of the packages, which takes seconds."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()  # or collections would copy what a child shares with the server
    given = _serve()
    if given is not None:
        _become(given)
        _end(_code_of(given["arguments"]))
