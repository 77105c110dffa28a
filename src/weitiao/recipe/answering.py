"""A model that answers questions from Python: a trained one or any other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, overload

from ..core.errors import Problem, SettingsError, shortened
from ..core.settings import parse_settings
from ..core.units import readable_count
from ..data.conversation import Message
from ..data.templates.system_prompts import asked_with
from ..evaluation.generate import generate
from ..evaluation.open_model import Opened
from ..evaluation.open_model import open_by_name as open_quietly
from ..evaluation.settings import GenerationSettings
from ..models.quiet import libraries_quiet
from ..models.resolve import convert_first
from .told import staging

Asked = str | Sequence[Message] | Sequence[Mapping[str, str]]
"""A question, or the conversation so far: Message objects or {role, content}."""
TURN = ("role", "content")


class Answering(ABC):
    """Base of what can answer questions."""

    @property
    @abstractmethod
    def opened(self) -> Opened:
        """The model with its tokenizer, its template and access to its base."""

    @overload
    def generate(
        self,
        asked: Asked,
        *,
        before: bool = False,
        system: str | None = None,
        num_return_sequences: Literal[1] = 1,
        **settings: Any,  # noqa: ANN401
    ) -> str: ...

    @overload
    def generate(
        self,
        asked: Asked,
        *,
        before: bool = False,
        system: str | None = None,
        num_return_sequences: int,
        **settings: Any,  # noqa: ANN401
    ) -> str | list[str]: ...

    def generate(
        self,
        asked: Asked,
        *,
        before: bool = False,
        system: str | None = None,
        num_return_sequences: int = 1,
        **settings: Any,
    ) -> str | list[str]:
        """Answer a question or continue a conversation; with `before`, as the base model does.

        `system` is the system prompt, "" for none. By default it is that of the training rows, if they share one; a
        conversation that begins with a system prompt keeps its own. Keywords are those of GenerationSettings
        (max_new_tokens, temperature, top_p, ...). Returns the answer, or a list of answers if num_return_sequences is
        above 1. Raises SettingsError for invalid keywords.
        """
        given = {**settings, "num_return_sequences": num_return_sequences}
        chosen = parse_settings(GenerationSettings, given, "generate")
        opened = self.opened
        messages = _with_system(_messages(asked), system, opened.system)
        with libraries_quiet(), opened.as_base() if before else nullcontext(opened.model) as model:
            answers = generate(model, opened.tokenizer, opened.template, [messages], chosen)[0]
        return answers[0] if chosen.num_return_sequences == 1 else answers


def _messages(asked: Asked) -> list[Message]:
    """Return the question as messages; raises SettingsError for anything but text or messages."""
    if isinstance(asked, str):
        return [Message("user", _encodable(asked))]
    if not isinstance(asked, Sequence) or not asked:
        raise SettingsError(_no_question(asked))
    turns: Sequence[object] = asked
    return [turn if isinstance(turn, Message) else _message(turn) for turn in turns]


def _with_system(messages: list[Message], given: str | None, trained: str) -> list[Message]:
    """Return the messages with a system prompt; raises SettingsError if they have one and another is given."""
    if given is not None and messages[0].role == "system":
        what = "a system prompt is given twice: as `system` and as the first turn"
        raise SettingsError(Problem(what, shortened(given), "one of the two", "leave system out"))
    return asked_with(trained if given is None else _encodable(given), messages)


def _message(turn: object) -> Message:
    """Return a message; keys besides role and content go to the template, such as fields of a text."""
    if not isinstance(turn, Mapping) or not all(isinstance(turn.get(name), str) for name in TURN):
        raise SettingsError(_no_question(turn))
    beside = {name: value for name, value in turn.items() if name not in TURN}
    return Message(turn["role"], _encodable(turn["content"]), extra=beside)


def _no_question(asked: object) -> Problem:
    return Problem(
        "this cannot be asked",
        shortened(repr(asked)),
        "a text, or the turns so far: each a Message, or a mapping with the texts role and content",
        'generate("What is LoRA?")',
    )


def _encodable(text: str) -> str:
    """Return the text with unpaired surrogates, which UTF-8 cannot encode, replaced by `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(repr=False)
class Model(Answering):
    """An opened model: a plain one, an adapter on its base, or a run's."""

    name: str
    _opened: Opened

    @property
    def opened(self) -> Opened:
        """The model with its tokenizer, its template and access to its base."""
        return self._opened

    @property
    def notes(self) -> list[str]:
        """What a person should know about it, in sentences."""
        return list(self._opened.notes)

    def __repr__(self) -> str:
        """Return its name and size."""
        size = sum(parameter.numel() for parameter in self._opened.model.parameters())
        return f"Model({self.name!r}, {readable_count(size)} parameters)"


def open_model(
    name: str, *, base: str | None = None, allow_other_base: bool = False, quiet: bool = False
) -> Model:
    """Load a model by the name that `weitiao chat` takes: an alias, a folder, a hub id, an adapter or a run.

    `base` says where an adapter's base is, if it cannot be found. Raises ModelError, RunFolderError.
    """
    with libraries_quiet(), staging(quiet) as stage:
        convert_first(name, stage)
        stage(f"loading {name}")
        return Model(name, open_quietly(name, base, allow_other_base))
