"""The result of a run: its folder, its numbers, and a model that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.events import Event, read_events, steps_that_count
from ..core.run_folder import RunFolder
from ..core.settings import read_yaml
from ..core.units import readable_rate, readable_seconds
from ..evaluation.open_model import Opened
from ..evaluation.open_model import open_by_name as open_quietly
from ..models.quiet import libraries_quiet
from ..models.resolve import public_name
from ..serving.merge import Merged, merge_run
from .answering import Answering
from .progress import number
from .recipe import Recipe, parse_recipe
from .told import staging


@dataclass(repr=False)
class Run(Answering):
    """A finished run; the model is loaded at the first question."""

    folder: RunFolder
    recipe: Recipe
    _opened: Opened | None = field(default=None, repr=False)

    @property
    def adapter_path(self) -> Path:
        """The folder of the result: the adapter, or the complete model if the method trains the model itself."""
        return self.folder.model if self.folder.model.is_dir() else self.folder.adapter

    @property
    def report(self) -> str:
        """The report as Markdown; its file is `run.folder.report`, the Chinese one `run.folder.report_zh`."""
        return self.folder.report.read_text(encoding="utf-8")

    @property
    def lr(self) -> float:
        """The peak learning rate that was used."""
        return self.recipe.lr

    @property
    def events(self) -> list[Event]:
        """All events of the run."""
        return list(read_events(self.folder.events))

    @property
    def losses(self) -> list[float]:
        """The loss of each step that led to the result."""
        return [event["loss"] for event in steps_that_count(iter(self.events))]

    @property
    def held_out(self) -> dict[str, dict[str, float]]:
        """Held-out loss and perplexity, `before` and `after`; empty if nothing was held out."""
        finished = [event for event in self.events if event["event"] == "finished"]
        return dict(finished[-1]["held_out"]) if finished else {}

    @property
    def verdict(self) -> str:
        """The verdict in a word or two, such as learnt; the event `verdict` has the reasons."""
        kinds = [event["kind"] for event in self.events if event["event"] == "verdict"]
        return str(kinds[-1]) if kinds else "not measured"

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The questions of the report with the answers before and after, and whether each was cut off."""
        answers = [event["rows"] for event in self.events if event["event"] == "answers"]
        return list(answers[-1]) if answers else []

    @property
    def opened(self) -> Opened:
        """The trained model with its tokenizer, its template and access to the base."""
        if self._opened is None:
            with libraries_quiet():
                self._opened = open_quietly(str(self.folder.root))
        return self._opened

    def merge(self, out: str | Path | None = None, *, quiet: bool = False) -> Merged:
        """Write the trained model as one plain model into the new folder `out`, read back and compared.

        By default, `out` is the run's folder with -merged appended. Raises what `serving.merge.merge_run` raises.
        """
        root = self.folder.root
        folder = Path(out) if out is not None else root.with_name(f"{root.name}-merged")
        with libraries_quiet(), staging(quiet) as stage:
            stage(f"merging {root} and reading it back to compare")
            return merge_run(str(root), folder)

    def __repr__(self) -> str:
        """Return what was trained, with which result, and where it is, in one line."""
        parts = [
            f"{self.recipe.method.title} on {public_name(self.recipe.model.name)}",
            f"lr {readable_rate(self.lr)}",
            *_results(self.events),
        ]
        return f"Run({str(self.folder.root)!r}: {', '.join(parts)})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the facts, the held-out loss, the curve and the answers."""
        from .run_html import run_html

        return run_html(repr(self), self.events)


def _results(events: list[Event]) -> list[str]:
    """Return the steps with their time, and the held-out loss before and after."""
    finished = next((event for event in reversed(events) if event["event"] == "finished"), None)
    if finished is None:
        return ["not finished"]
    steps = len(steps_that_count(iter(events)))
    said = [f"{steps} step{'' if steps == 1 else 's'} in {readable_seconds(finished['seconds'])}"]
    before, after = (finished["held_out"].get(when) for when in ("before", "after"))
    if before and after:
        said.append(f"held-out loss {number(before['loss'])} -> {number(after['loss'])}")
    return [*said, *[event["kind"] for event in events if event["event"] == "verdict"][-1:]]


def open_run(root: str | Path) -> Run:
    """Open a finished run's folder; raises RunFolderError if it holds none."""
    folder = RunFolder(Path(root))
    folder.require_result()
    return Run(folder, parse_recipe(read_yaml(folder.run_yaml)))
