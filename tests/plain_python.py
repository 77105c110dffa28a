"""Scripts in processes of their own that have torch, transformers and PEFT imported, and not weitiao."""

from __future__ import annotations

import os
from pathlib import Path
from subprocess import CompletedProcess

from forked_python import python_server

FIRST = """
import sys, torch, warnings
torch.set_num_threads(1)
warnings.simplefilter("ignore")
assert not [name for name in sys.modules if name.partition(".")[0] == "weitiao"]
"""


def run_plain(
    script: str, *arguments: str, folder: Path | None = None, path: str = "", typed: str = ""
) -> CompletedProcess[str]:
    """Run a script, with one thread, to its end; modules are looked for in `path` before all other places."""
    environment = {**os.environ, "PYTHONPATH": path}
    command = ["-c", FIRST + script, *arguments]
    return python_server().run(command, folder=folder, environment=environment, typed=typed)


def output_of_plain(script: str, *arguments: str, folder: Path | None = None, path: str = "") -> str:
    """Return what a script that succeeds writes."""
    done = run_plain(script, *arguments, folder=folder, path=path)
    assert done.returncode == 0, done.stderr
    return done.stdout
