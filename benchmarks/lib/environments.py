"""What the benchmarks run in: an environment for each peer, made once and kept, and processes started in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
"""The folder of the benchmarks."""
STAND_IN = '"""Stands in for the real one, of which text needs nothing."""\n'
DECIDES_SPEED = (
    "weitiao",
    "llamafactory",
    "trl",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "datasets",
    "torch",
)
OWN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""What would make a peer's interpreter look into the environment of this one."""

Measured = dict[str, Any]


class ChildFailed(Exception):
    """A process ended with an error; the text is the end of what it said."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a peer: what is installed, and what of that is taken out again."""

    name: str
    packages: tuple[str, ...]
    removed: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    """Modules that stand empty in the place of what was taken out."""

    def python(self, work: Path) -> Path:
        """Return the interpreter; the environment is made below `work` where it is not there as it is stated here."""
        folder = work / self.name
        python, done = folder / "bin" / "python", folder / "done"
        stated = "\n".join((*self.packages, *(f"without {name}" for name in self.removed)))
        if not (done.is_file() and done.read_text(encoding="utf-8") == stated):
            print(f"installing {', '.join(self.packages)} into {folder}", flush=True)
            venv.create(folder, with_pip=True, clear=True)
            pip = [str(python), "-m", "pip"]
            subprocess.run([*pip, "install", "--quiet", *self.packages], check=True)
            if self.removed:
                subprocess.run([*pip, "uninstall", "--quiet", "--yes", *self.removed], check=True)
            (site,) = folder.glob("lib/python*/site-packages")
            for module in self.stand_ins:
                (site / f"{module}.py").write_text(STAND_IN, encoding="utf-8")
            done.write_text(stated, encoding="utf-8")
        return python


LLAMA_FACTORY = Environment(
    "llamafactory",
    ("torch==2.13.0", "llamafactory==0.9.5"),
    # Their wheels load CUDA's libraries, which a CPU's torch does not bring; the second is imported always.
    removed=("torchvision", "torchaudio"),
    stand_ins=("torchaudio",),
)
TRL = Environment("trl", ("torch==2.13.0", "trl==1.16.0", "transformers==5.24.0", "peft==0.21.2"))


def versions_in(python: Path) -> str:
    """Return what decides the speed of an environment, with versions."""
    code = (
        "from importlib.metadata import distributions\n"
        f"names = {DECIDES_SPEED}\n"
        "found = {d.metadata['Name'].lower(): d.version for d in distributions()}\n"
        "print(', '.join(f'{name} {found[name]}' for name in names if name in found))"
    )
    # From the folder "/" nothing that lies about is taken for an installed package.
    return subprocess.run(
        [str(python), "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=environment_of(python),
        cwd="/",
    ).stdout.strip()


def environment_of(python: Path, **more: str) -> dict[str, str]:
    """Return the environment variables of a process that an interpreter runs."""
    own = python == Path(sys.executable)
    kept = {name: value for name, value in os.environ.items() if own or name not in OWN}
    path = os.pathsep.join([str(HERE), *filter(None, [kept.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **more}


def in_lib(python: Path | str, script: str) -> list[str]:
    """Return the command that runs a module of lib/, in the variables of `environment_of`."""
    return [str(python), "-m", f"lib.{script}"]


def on_threads(threads: int) -> dict[str, str]:
    """Return the variables that give a process so many threads to compute with."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def run_child(python: Path, script: str, task: Measured, **variables: str) -> Measured:
    """Run a module of lib/ in a process of its own; returns what it measured, and the seconds of the process.

    The module is given `--task`, `--result` and, in the task, a `folder` that is deleted afterwards. Raises ChildFailed
    with the end of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        task_path, result, said = (Path(folder) / name for name in ("task.json", "result.json", "said.txt"))
        task_path.write_text(json.dumps({**task, "folder": folder}), encoding="utf-8")
        command = [*in_lib(python, script), "--task", str(task_path), "--result", str(result)]
        begun = time.perf_counter()
        with said.open("w", encoding="utf-8") as output:
            environment = environment_of(python, **variables)
            done = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise ChildFailed(f"{script}: {said.read_text(encoding='utf-8')[-4000:]}")
        measured: Measured = json.loads(result.read_text(encoding="utf-8"))
    return {**measured, "process_seconds": seconds}


def model_folder() -> Path:
    """Return the folder of SmolLM2-135M, which all sides use."""
    from weitiao.models.resolve import resolve
    from weitiao.models.settings import ModelSettings

    return Path(resolve(ModelSettings(name="smollm2-135m")).path)
