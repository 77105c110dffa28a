"""Runs that a benchmark makes once and keeps: each in a process of its own, its result a line of JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .environments import environment_of, in_lib

Values = dict[str, Any]


def run_one(name: str, task: Values) -> Values:
    """Make one run in a process of its own; its row holds what was measured, or how it failed."""
    row = {"name": name, "lr": task["recipe"]["train"]["lr"], "task": key_of(task)}
    with tempfile.TemporaryDirectory() as folder:
        task_path, result = Path(folder) / "task.json", Path(folder) / "result.json"
        task_path.write_text(json.dumps(task), encoding="utf-8")
        command = [*in_lib(sys.executable, "method"), "--task", str(task_path), "--result", str(result)]
        environment = environment_of(Path(sys.executable), OMP_NUM_THREADS=str(task["threads"]))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()][-8:]
            return {**row, "error": " ".join(said) or f"exit code {done.returncode}"}
        return {**row, **json.loads(result.read_text(encoding="utf-8"))}


def key_of(task: Values) -> str:
    """Return the settings that decide a run, as text."""
    return json.dumps(task, sort_keys=True)


def finished_rows(path: Path) -> dict[str, Values]:
    """Return the rows of runs that ended well, by their settings."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last may be broken off
    return {row["task"]: row for row in rows if "error" not in row}


def keep(row: Values, path: Path) -> None:
    """Append a run's row to the file of those kept."""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * _needs_new_line(path) + json.dumps(row) + "\n")


def _needs_new_line(path: Path) -> bool:
    """Return whether the last line of a file was broken off."""
    text = path.read_bytes()
    return bool(text) and not text.endswith(b"\n")


def machine() -> str:
    """Describe the processor and the system."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"
