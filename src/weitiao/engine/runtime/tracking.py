"""Optional experiment trackers, through accelerate: they plot the numbers that events.jsonl always records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from ...core.errors import MissingExtraError, missing_extra, raise_all
from ...core.events import Event
from ...core.settings import Settings

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TrackerName = Literal["tensorboard", "trackio", "wandb", "mlflow", "swanlab"]

NO_CURVES = ("event", "time", "step")
"""Fields of an `evaluated` event that are not measurements."""

SHOWN = (
    "loss",
    "lr",
    "grad_norm",
    "tokens_per_second",
    "memory_bytes",
    "cpu_percent",
    "gpu_memory_bytes",
    "gpu_percent",
)


class TrackSettings(Settings):
    """Where a run's curves go besides events.jsonl, which is always written."""

    to: list[TrackerName] = Field(default_factory=list)
    """tensorboard, trackio (local), wandb, mlflow, swanlab; each is an extra: pip install 'weitiao[trackio]'."""
    project: str = "weitiao"
    """The trackers' project, which groups runs."""
    name: str | None = None
    """The run's name there; if left out, the output folder's."""
    offline: bool = True
    """Keep wandb and swanlab on this machine; false uploads to their servers, with the key in your environment."""

    @field_validator("to", mode="before")
    @classmethod
    def _one_or_several(cls, names: object) -> object:
        return [name.strip() for name in names.split(",")] if isinstance(names, str) else names

    def require_installed(self) -> None:
        """Raise MissingExtraError naming every chosen tracker whose package is not installed."""
        missing = [tracker for tracker in self.to if find_spec(tracker) is None]
        errors = [missing_extra(tracker, tracker, f"track.to: [{tracker}]") for tracker in missing]
        raise_all(MissingExtraError, [problem for error in errors for problem in error.problems])


def _tensorboard(settings: TrackSettings, name: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(name, folder / "tensorboard")


def _trackio(settings: TrackSettings, name: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(settings.project, name=name)


def _wandb(settings: TrackSettings, name: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import WandBTracker

    mode = "offline" if settings.offline else "online"
    return WandBTracker(settings.project, name=name, dir=str(folder), mode=mode)


def _mlflow(settings: TrackSettings, name: str, folder: Path) -> GeneralTracker:
    import os

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow reads it on import
    import mlflow
    from accelerate.tracking import MLflowTracker

    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').absolute()}")
    return MLflowTracker(experiment_name=settings.project, run_name=name, logging_dir=str(folder / "mlflow"))


def _swanlab(settings: TrackSettings, name: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import SwanLabTracker

    mode = "offline" if settings.offline else "cloud"
    return SwanLabTracker(settings.project, experiment_name=name, logdir=str(folder / "swanlab"), mode=mode)


TRACKERS: Mapping[str, Callable[[TrackSettings, str, Path], GeneralTracker]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "swanlab": _swanlab,
}


class Tracking:
    """An event listener that forwards losses and resource use to the chosen trackers."""

    def __init__(self, settings: TrackSettings, root: Path, hyperparameters: Mapping[str, Any]) -> None:
        """Start the trackers for the run at `root`; their files go into its folder `track`."""
        self._trackers: list[GeneralTracker] = []
        self._step = 0
        if not settings.to:
            return
        from accelerate import PartialState

        PartialState()  # accelerate's trackers use its logger, which requires this state
        folder = root / "track"
        folder.mkdir(parents=True, exist_ok=True)
        for chosen in settings.to:
            tracker = TRACKERS[chosen](settings, settings.name or root.name, folder)
            tracker.start()
            tracker.store_init_configuration(dict(hyperparameters))
            self._trackers.append(tracker)

    def __call__(self, event: Event) -> None:
        """Log the numbers of a `step`, `evaluated` or `answers` event; ignore other events."""
        self._step = event.get("step", self._step)
        if values := numbers_of_event(event):
            for tracker in self._trackers:
                tracker.log(values, step=self._step)

    def close(self) -> None:
        """Finish the trackers' runs."""
        for tracker in self._trackers:
            tracker.finish()


def numbers_of_event(event: Event) -> dict[str, Any]:
    """Return what trackers plot of an event, by name; empty if it has nothing to plot."""
    if event["event"] == "step":
        shown = {key: event[key] for key in SHOWN if event.get(key) is not None}
        return {f"train/{key}": value for key, value in (shown | event.get("metrics", {})).items()}
    if event["event"] == "evaluated":
        return {f"held_out/{key}": event[key] for key in event if key not in NO_CURVES}
    if event["event"] == "answers":
        scores = event.get("scores", [])
        before = {f"answers_before/{one['metric']}": one["before"] for one in scores}
        return before | {f"answers/{one['metric']}": one["after"] for one in scores}
    return {}
