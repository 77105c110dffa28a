"""The folder of one run: run.yaml, events.jsonl, replay.jsonl, adapter/ or model/, checkpoints/, report.md."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from .errors import Problem, RunFolderError, nearest
from .folder_lock import LOCK, locked_folder

RUNS_SHOWN = 3
"""Most runs that an error names."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files; creating the object writes nothing."""

    root: Path

    @property
    def run_yaml(self) -> Path:
        """The complete run file, which reproduces the run."""
        return self.root / "run.yaml"

    @property
    def events(self) -> Path:
        """The run's events, one JSON object per line."""
        return self.root / "events.jsonl"

    @property
    def adapter(self) -> Path:
        """The trained adapter in PEFT's format."""
        return self.root / "adapter"

    @property
    def model(self) -> Path:
        """The complete trained model, where the method changes the model's own weights."""
        return self.root / "model"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints, one folder each."""
        return self.root / "checkpoints"

    @property
    def replay(self) -> Path:
        """General questions with the model's own answers that are mixed into training, one row per line."""
        return self.root / "replay.jsonl"

    @property
    def frozen_states(self) -> Path:
        """The outputs of frozen blocks, kept only while the run lasts."""
        return self.root / "frozen_states.bin"

    @property
    def base_fingerprint(self) -> Path:
        """What identifies the base model of the run."""
        return self.root / "base_fingerprint.json"

    @property
    def report(self) -> Path:
        """The report with the answers before and after."""
        return self.root / "report.md"

    @property
    def report_zh(self) -> Path:
        """The same report in Chinese."""
        return self.root / "report.zh.md"

    def require_new(self) -> None:
        """Raise RunFolderError if the folder already holds anything."""
        if self.root.is_file():
            raise RunFolderError(
                Problem("the output folder is a file", str(self.root), "a new folder", "--out RUN")
            )
        there = [p.name for p in self.root.iterdir()] if self.root.is_dir() else []
        used = [name for name in there if name != LOCK and not name.startswith(".run.yaml.")]
        if used:
            goes_on = self.run_yaml.is_file() and not self.report.is_file()
            resume = f"weitiao train --resume {self.root}" if goes_on else ""
            free = next(n for n in count(2) if not Path(f"{self.root}-{n}").exists())
            remedy = " or ".join(filter(None, [resume, f"--out {self.root}-{free}"]))
            raise RunFolderError(
                Problem(
                    "the output folder is in use",
                    f"{self.root} ({', '.join(sorted(used)[:4])})",
                    "a folder that is new or empty",
                    remedy,
                )
            )

    def require_run(self) -> None:
        """Raise RunFolderError if this folder holds no run."""
        if not self.run_yaml.is_file():
            raise RunFolderError(
                Problem(
                    "this folder holds no run",
                    str(self.root),
                    "a folder with run.yaml, made by weitiao train",
                    " or ".join(self.similar_runs()),
                )
            )

    def similar_runs(self) -> list[str]:
        """Return sibling runs with names similar to this folder's."""
        beside = self.root.parent
        runs = [one.parent.name for one in beside.glob(f"*/{self.run_yaml.name}")] if beside.is_dir() else []
        return [str(beside / name) for name in nearest(self.root.name, runs)]

    @property
    def has_result(self) -> bool:
        """Whether the folder holds the run's adapter or model."""
        return self.adapter.is_dir() or self.model.is_dir()

    def require_result(self) -> None:
        """Raise RunFolderError if this folder holds no run, or an unfinished one."""
        self.require_run()
        if not self.has_result:
            raise RunFolderError(
                Problem(
                    "this run has no result yet",
                    str(self.root),
                    "a run that finished",
                    f"weitiao train --resume {self.root}",
                )
            )

    def runs_about(self) -> list[str]:
        """Return the run that contains this path, else the newest runs inside it, finished ones if there are any."""
        around = [one for one in self.root.parents if RunFolder(one).run_yaml.is_file()]
        if around:
            return [str(around[0])]
        inside = list(self.root.glob(f"*/{self.run_yaml.name}")) if self.root.is_dir() else []
        finished = [one for one in inside if RunFolder(one.parent).has_result]
        newest = sorted(finished or inside, key=lambda one: one.stat().st_mtime, reverse=True)
        return [str(one.parent) for one in newest[:RUNS_SHOWN]]

    def clear(self) -> None:
        """Remove what a run writes before its first checkpoint, and nothing else."""
        for path in (self.run_yaml, self.events, self.base_fingerprint, self.replay):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.root / "track", ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against a second process; the lock ends with the process. Raises RunFolderError.

        If the folder is empty at the end, the lock and the folders created here are removed.
        """
        with locked_folder(self.root):
            yield
