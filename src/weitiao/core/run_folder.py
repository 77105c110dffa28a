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
"""How many runs an error names."""


@dataclass(frozen=True)
class RunFolder:
    """Where each thing of a run lies; creating one writes nothing."""

    root: Path

    @property
    def run_yaml(self) -> Path:
        """The whole run file, which reproduces the run."""
        return self.root / "run.yaml"

    @property
    def events(self) -> Path:
        """What the run reported, a JSON object a line."""
        return self.root / "events.jsonl"

    @property
    def adapter(self) -> Path:
        """The trained adapter in PEFT's format."""
        return self.root / "adapter"

    @property
    def model(self) -> Path:
        """The whole trained model, where the method changes the model's own weights."""
        return self.root / "model"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints, one folder each."""
        return self.root / "checkpoints"

    @property
    def replay(self) -> Path:
        """The general questions with the model's own answers that are mixed into training, a row a line."""
        return self.root / "replay.jsonl"

    @property
    def frozen_states(self) -> Path:
        """What frozen blocks give, kept only while the run lasts."""
        return self.root / "frozen_states.bin"

    @property
    def base_fingerprint(self) -> Path:
        """What identifies the base that the run trains on."""
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
        """Raise RunFolderError where the folder already holds anything."""
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
        """Raise RunFolderError where no run lies here."""
        if not self.run_yaml.is_file():
            raise RunFolderError(
                Problem(
                    "no run lies in this folder",
                    str(self.root),
                    "a folder with run.yaml, made by weitiao train",
                    " or ".join(self.similar_runs()),
                )
            )

    def similar_runs(self) -> list[str]:
        """Return the runs beside this folder whose names are spelt like its own."""
        beside = self.root.parent
        runs = [one.parent.name for one in beside.glob(f"*/{self.run_yaml.name}")] if beside.is_dir() else []
        return [str(beside / name) for name in nearest(self.root.name, runs)]

    @property
    def has_result(self) -> bool:
        """Whether the run's adapter or model lies here."""
        return self.adapter.is_dir() or self.model.is_dir()

    def require_result(self) -> None:
        """Raise RunFolderError where no run lies here, or one that has not finished."""
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
        """Return the run that this place is a part of, else the newest runs that lie in it, finished ones if any."""
        around = [one for one in self.root.parents if RunFolder(one).run_yaml.is_file()]
        if around:
            return [str(around[0])]
        inside = list(self.root.glob(f"*/{self.run_yaml.name}")) if self.root.is_dir() else []
        finished = [one for one in inside if RunFolder(one.parent).has_result]
        newest = sorted(finished or inside, key=lambda one: one.stat().st_mtime, reverse=True)
        return [str(one.parent) for one in newest[:RUNS_SHOWN]]

    def clear(self) -> None:
        """Remove what a run writes before its first checkpoint; nothing else is touched."""
        for path in (self.run_yaml, self.events, self.base_fingerprint, self.replay):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.root / "track", ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process; the lock dies with its process. Raises RunFolderError.

        Where nothing was begun, the folders and the lock made here are taken away again.
        """
        with locked_folder(self.root):
            yield
