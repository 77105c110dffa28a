"""Scripts in processes of their own that have torch, transformers and PEFT imported, and not weitiao."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SERVER = Path(__file__).with_name("plain_python_server.py")


@dataclass(frozen=True)
class Ended:
    """How a script ended."""

    code: int
    out: str
    err: str


class PlainPython:
    """A connection to the process that scripts are forked from; importing PEFT takes longer than most of them.

    Whoever names the same folder shares that process, such as the workers of pytest-xdist.
    """

    def __init__(self, folder: Path) -> None:
        address = folder / "plain-python"
        with address.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._connection = _connected(address) or _started(address)
        self._lines = self._connection.makefile("rw")

    def run(
        self, script: str, *arguments: str, folder: Path | None = None, path: str = "", typed: str = ""
    ) -> Ended:
        """Run a script, with one thread, to its end; modules are looked for in `path` before all other places."""
        job = {"script": script, "arguments": arguments, "folder": str(folder or "."), "path": path}
        self._lines.write(json.dumps({**job, "typed": typed}) + "\n")
        self._lines.flush()
        return Ended(**json.loads(self._lines.readline()))

    def output_of(self, script: str, *arguments: str, folder: Path | None = None, path: str = "") -> str:
        """Return what a script that succeeds writes."""
        ended = self.run(script, *arguments, folder=folder, path=path)
        assert ended.code == 0, ended.err
        return ended.out

    def close(self) -> None:
        """Close the connection; the process ends with the last one."""
        self._lines.close()
        self._connection.close()


def _connected(address: Path) -> socket.socket | None:
    """Connect to a process that serves at an address; None where none does."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(address))
        if connection.recv(1):
            return connection
    except (FileNotFoundError, ConnectionError):
        pass
    connection.close()
    return None


def _started(address: Path) -> socket.socket:
    """Start a process that serves at an address, and connect to it."""
    address.unlink(missing_ok=True)
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(SERVER), str(address)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | one_thread)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    connection = _connected(address)
    assert connection is not None
    return connection
