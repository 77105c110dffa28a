"""What a run gives back: its folder, its numbers, and a model that answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.events import Event, read_events, steps_that_count
from ..core.run_folder import RunFolder
from ..core.settings import parse_settings, read_yaml
from ..data.conversation import Message
from ..evaluation.generate import generate
from ..evaluation.opened import Opened, open_model
from ..evaluation.settings import GenerationSettings
from .recipe import Recipe, parse_recipe

Asked = str | Sequence[Message] | Sequence[dict[str, str]]
"""A question, or the turns so far: Message objects or {role, content}."""


@dataclass
class Run:
    """A finished run; the model is loaded when it is first asked."""

    folder: RunFolder
    recipe: Recipe
    _opened: Opened | None = field(default=None, repr=False)

    @property
    def adapter_path(self) -> Path:
        """Where the result lies: the adapter, or the whole model where the method trains the model itself."""
        return self.folder.model if self.folder.model.is_dir() else self.folder.adapter

    @property
    def events(self) -> list[Event]:
        """Everything the run reported."""
        return list(read_events(self.folder.events))

    @property
    def losses(self) -> list[float]:
        """The loss of each step that made the result."""
        return [event["loss"] for event in steps_that_count(iter(self.events))]

    @property
    def held_out(self) -> dict[str, dict[str, float]]:
        """Held-out loss and perplexity `before` and `after`; empty where nothing was held out."""
        finished = [event for event in self.events if event["event"] == "finished"]
        return dict(finished[-1]["held_out"]) if finished else {}

    @property
    def verdict(self) -> str:
        """What the run achieved: learnt, hardly changed, got worse or not measured; the event `verdict` has why."""
        kinds = [event["kind"] for event in self.events if event["event"] == "verdict"]
        return str(kinds[-1]) if kinds else "not measured"

    @property
    def answers(self) -> list[dict[str, str]]:
        """The questions of the report with the answers before and after."""
        answers = [event["rows"] for event in self.events if event["event"] == "answers"]
        return list(answers[-1]) if answers else []

    @property
    def opened(self) -> Opened:
        """The tuned model with its tokenizer, its template and the way back to the base."""
        self._opened = self._opened or open_model(str(self.folder.root))
        return self._opened

    def generate(self, asked: Asked, *, before: bool = False, **settings: Any) -> str | list[str]:  # noqa: ANN401
        """Answer a question or go on with a conversation; with `before`, as the base does.

        Keywords are those of GenerationSettings (max_new_tokens, temperature, top_p, ...). Returns the answer, or the
        list of answers where num_return_sequences is above 1. Raises SettingsError for keywords that do not fit.
        """
        chosen = parse_settings(GenerationSettings, settings, "generate")
        opened = self.opened
        with opened.as_base() if before else nullcontext(opened.model) as model:
            answers = generate(model, opened.tokenizer, opened.template, [_messages(asked)], chosen)[0]
        return answers[0] if chosen.num_return_sequences == 1 else answers


def _messages(asked: Asked) -> list[Message]:
    if isinstance(asked, str):
        return [Message("user", asked)]
    return [turn if isinstance(turn, Message) else _message(turn) for turn in asked]


def _message(turn: dict[str, str]) -> Message:
    """Return a turn; what it holds beside role and content is for the template, such as fields of a text."""
    beside = {name: value for name, value in turn.items() if name not in ("role", "content")}
    return Message(turn["role"], turn["content"], extra=beside)  # type: ignore[arg-type]


def open_run(root: str | Path) -> Run:
    """Open a finished run's folder; raises RunFolderError where none lies there."""
    folder = RunFolder(Path(root))
    folder.require_result()
    return Run(folder, parse_recipe(read_yaml(folder.run_yaml)))
