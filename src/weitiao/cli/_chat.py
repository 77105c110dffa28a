"""A chat: its history, its commands and its answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..core.errors import Problem, SettingsError, WeitiaoError, unknown_name
from ..core.locale import shown
from ..core.settings import parse_settings
from ..core.visible import visible
from ..data.conversation import Message
from ..data.templates.system_prompts import asked_with
from ..evaluation.answers import CUT_MARK, answer_excerpt
from ..evaluation.settings import GenerationSettings
from ._tables import print_sentence
from ._wrap_stream import StreamWrapper

if TYPE_CHECKING:
    from ..evaluation.open_model import Opened

SIDE_BY_SIDE_COLUMNS = 100
"""From this width on, two answers are shown side by side."""


LEAVE = ("exit", "quit", "/quit")
"""Words that end a chat besides /exit: what people type in other programs."""


OF_TRAINING = "training"
"""The argument of /system that selects the system prompt of the training rows."""
SHOWN_CHARACTERS = 200
"""Characters of the system prompt shown when a chat begins."""
NO_SYSTEM = ("none", "off")
"""Arguments of /system that mean no system prompt."""


class Voice(Enum):
    """Which model answers: trained or base."""

    TRAINED = "after training"
    BASE = "before training"


@dataclass
class Chat:
    """One conversation with an opened model."""

    opened: Opened
    settings: GenerationSettings
    console: Console
    voices: tuple[Voice, ...] = (Voice.TRAINED,)
    system: str | None = None
    """The given system prompt, "" for none; None uses that of the training rows, where they had one."""
    fields: dict[str, str] = field(default_factory=dict)
    """Extra fields of each question, for templates with fields: task=translate."""
    adapters: Mapping[str, Opened] = field(default_factory=dict)
    """Models that can replace `opened`, by name."""
    turns: dict[Voice, list[Message]] = field(default_factory=lambda: {voice: [] for voice in Voice})
    """The conversation of each voice; neither sees the other's answers, or it would imitate them."""
    ended: bool = False
    _talks: dict[str, dict[Voice, list[Message]]] = field(default_factory=dict, repr=False)
    """The conversations with each adapter."""

    def __post_init__(self) -> None:
        """Build the table of commands."""
        self._commands: Mapping[str, tuple[Callable[[str], None], str]] = {
            "/reset": (self._reset, "forget the conversation so far"),
            "/base": (self._base, "switch off what was trained, or on again"),
            "/both": (self._both, "show the answers before and after training, or only those after"),
            "/system": (
                self._system,
                "show the system prompt; TEXT sets it, none removes it, training restores it, all starting over",
            ),
            "/field": (
                self._field,
                "NAME VALUE: set a field of the template, or the task; without VALUE it is removed",
            ),
            "/adapter": (self._adapter, "NAME: switch to another adapter; without NAME, list them"),
            "/set": (self._set, "NAME VALUE: change a generation setting, such as temperature 0.7"),
            "/help": (self._help, "list the commands and the settings"),
            "/exit": (self._exit, "end the chat, as exit, quit and Ctrl-D do"),
        }

    def take(self, line: str) -> None:
        """Run a command or answer a question; an error is shown and the chat continues."""
        text = line.strip()
        if not text:
            return
        if text.lower() in LEAVE:
            self.ended = True
            return
        try:
            self._obey(text) if text.startswith("/") else self._answer(text)
        except WeitiaoError as error:
            self._say(str(error), "red")

    def _obey(self, text: str) -> None:
        """Run a command; raises SettingsError with the nearest spelling for an unknown one."""
        name, _, rest = text.partition(" ")
        if name not in self._commands:
            raise SettingsError(unknown_name("command", name, self._commands, "/help"))
        self._commands[name][0](rest.strip())

    def _answer(self, question: str) -> None:
        """Answer, and keep question and answer; after Ctrl-C the part generated so far is kept."""
        answers = [Growing() for _ in self.voices]
        try:
            if (
                len(self.voices) > 1
                and self.console.is_terminal
                and self.console.width >= SIDE_BY_SIDE_COLUMNS
            ):
                self._side_by_side(question, answers)
            else:
                self._one_after_another(question, answers)
        except KeyboardInterrupt:
            self._say("\n" + shown("(stopped)"), "dim")
        for voice, answer in zip(self.voices, answers, strict=True):
            if kept := answer.text.strip():
                self.turns[voice] += [self._asked(question), Message("assistant", kept)]

    def messages(self, voice: Voice, question: str) -> list[Message]:
        """Return a voice's own conversation including the new question."""
        return asked_with(self.system_prompt, [*self.turns[voice], self._asked(question)])

    @property
    def system_prompt(self) -> str:
        """The system prompt in use; empty if there is none."""
        return self.opened.system if self.system is None else self.system

    def _asked(self, question: str) -> Message:
        return Message("user", question, extra=dict(self.fields))

    def _one_after_another(self, question: str, answers: Sequence[Growing]) -> None:
        for voice, answer in zip(self.voices, answers, strict=True):
            if len(self.voices) > 1:
                self._say(f"[{shown(voice.value)}]", "bold")
            # Closing the generator stops generation at once if Ctrl-C comes while a piece is printed.
            with closing(self._pieces(voice, self.messages(voice, question), answer)) as pieces:
                self._write(pieces, answer)
            self._say_cut([answer])

    def _write(self, pieces: Iterable[str], answer: Growing) -> None:
        """Write an answer as it is generated; on a terminal, wrap lines between words."""
        wrapped = StreamWrapper(self.console.width, self._out) if self.console.is_terminal else None
        try:
            for piece in pieces:
                answer.text += piece
                if wrapped is None:
                    self._out(visible(piece))
                else:
                    wrapped.push(visible(piece))
        finally:
            if wrapped is not None:
                wrapped.rest()
        self._out("\n")

    def _out(self, text: str) -> None:
        self.console.out(text, end="", highlight=False)

    def _say_cut(self, answers: Sequence[Growing]) -> None:
        """On a terminal, say that an answer was cut off at max_new_tokens; a pipe gets only the answers."""
        if self.console.is_terminal and any(answer.cut for answer in answers):
            limit = self.settings.max_new_tokens
            self._tell(f"({CUT_MARK} cut off after {limit} tokens: /set max_new_tokens {2 * limit})")

    def _side_by_side(self, question: str, answers: Sequence[Growing]) -> None:
        with Live(console=self.console, auto_refresh=False, vertical_overflow="visible") as live:
            for voice, answer in zip(self.voices, answers, strict=True):
                with closing(self._pieces(voice, self.messages(voice, question), answer)) as pieces:
                    for piece in pieces:
                        answer.text += piece
                        live.update(self._columns(answers), refresh=True)
        self._say_cut(answers)

    def _columns(self, answers: Sequence[Growing]) -> Table:
        table = Table(expand=True)
        for voice in self.voices:
            table.add_column(shown(voice.value), ratio=1, overflow="fold")
        table.add_row(*(Text(visible(answer.text)) for answer in answers))
        return table

    def _pieces(self, voice: Voice, messages: Sequence[Message], into: Growing) -> Generator[str]:
        """Yield an answer as it is generated; if it cannot be streamed, yield all answers at once."""
        from ..evaluation.generate import generate_answers, stream

        opened = self.opened
        with opened.as_base() if voice is Voice.BASE else nullcontext(opened.model) as model:
            if self.settings.streams:
                into.cut = yield from stream(
                    model, opened.tokenizer, opened.template, messages, self.settings
                )
                return
            answers = generate_answers(model, opened.tokenizer, opened.template, [messages], self.settings)[0]
        into.cut = any(answer.cut for answer in answers)
        numbered = "\n".join(f"{number}. {answer.text}" for number, answer in enumerate(answers, 1))
        yield answers[0].text if len(answers) == 1 else numbered

    def _reset(self, _: str) -> None:
        for turns in self.turns.values():
            turns.clear()
        self._tell("(the conversation starts over)")

    def _base(self, _: str) -> None:
        self._require_trained()
        base = self.voices == (Voice.BASE,)
        self.voices = (Voice.TRAINED,) if base else (Voice.BASE,)
        self._tell(f"(answers as {self.voices[0].value})")

    def _both(self, _: str) -> None:
        self._require_trained()
        both = len(self.voices) > 1
        self.voices = (Voice.TRAINED,) if both else (Voice.BASE, Voice.TRAINED)
        self._tell("(one answer)" if both else "(answers before and after training)")

    def _require_trained(self) -> None:
        if not self.opened.is_trained:
            raise SettingsError(
                Problem(
                    "this model was not trained by weitiao, so there is no before and after",
                    self.opened.source.base.name,
                    "the folder of a run or of an adapter",
                    "weitiao chat RUN",
                )
            )

    def _system(self, text: str) -> None:
        """Show the system prompt, or change it and start over; raises SettingsError for `training` if it had none."""
        if not text:
            self.say_system(whole=True)
            return
        word = text.lower()
        if word == OF_TRAINING and not self.opened.system:
            what = "the rows trained on do not all begin with one system prompt"
            raise SettingsError(Problem(what, f"/system {text}", "a text, or none", "/system none"))
        self.system = None if word == OF_TRAINING else "" if word in NO_SYSTEM else text
        for turns in self.turns.values():
            turns.clear()
        self.say_system()
        self._tell("(the conversation starts over)")

    def say_system(self, *, whole: bool = False) -> None:
        """Print the system prompt in use, in one line or `whole`, and how to change it."""
        text = self.system_prompt
        if not text:
            back = f"; /system {OF_TRAINING} restores that of training" if self.opened.system else ""
            before = answer_excerpt(self.opened.template.before_question, SHOWN_CHARACTERS)
            written = f"; the template writes before a question: {visible(before)}" if before else ""
            self._tell(f"no system prompt; /system TEXT sets one{back}{written}")
            return
        where = ", as in training" if text == self.opened.system else ""
        quoted = visible(text if whole else answer_excerpt(text, SHOWN_CHARACTERS))
        self._tell(f"system prompt: '{quoted}'{where}; /system changes it")

    def _adapter(self, name: str) -> None:
        """Switch to another adapter and its own conversation; raises SettingsError for an unknown name."""
        if not self.adapters:
            what = "this chat has one model, so there is no adapter to switch to"
            remedy = "weitiao chat --adapter a=RUN --adapter b=RUN"
            raise SettingsError(Problem(what, expected="several adapters of one base", remedy=remedy))
        if not name:
            for known, opened in self.adapters.items():
                mark = "*" if opened is self.opened else " "
                self._say(f"{mark} {known:<12}{opened.source.adapter or opened.source.checkpoint}")
            return
        if name not in self.adapters:
            raise SettingsError(unknown_name("adapter", name, self.adapters, "/adapter"))
        current = next(known for known, opened in self.adapters.items() if opened is self.opened)
        self._talks[current] = self.turns
        self.opened = self.adapters[name]
        self.turns = self._talks.get(name) or {voice: [] for voice in Voice}
        self._tell(f"(answers with {name}, in its own conversation)")

    def _field(self, text: str) -> None:
        name, _, value = text.replace("=", " ", 1).partition(" ")
        if value.strip():
            self.fields[name] = value.strip()
        else:
            self.fields.pop(name, None)
        now = ", ".join(f"{name} = {value}" for name, value in self.fields.items())
        self._tell(f"(beside each question: {now or 'nothing'})")

    def _set(self, text: str) -> None:
        """Change one generation setting; on SettingsError nothing changes."""
        name, _, value = text.replace("=", " ", 1).partition(" ")
        key = name.strip().replace("-", "_")
        stops = key == "stop"
        now: dict[str, Any] = self.settings.model_dump()
        changed = {**now, key: [value.strip()] if stops and value.strip() else [] if stops else value.strip()}
        self.settings = parse_settings(GenerationSettings, changed)
        self._say(f"({key} = {self.settings.model_dump()[key]})", "dim")

    def _help(self, _: str) -> None:
        for name, (_command, meaning) in self._commands.items():
            self._say(f"{name:<9}{shown(meaning)}")
        for name, value in self.settings.model_dump().items():
            self._say(f"  {name} = {value}", "dim")

    def _exit(self, _: str) -> None:
        self.ended = True

    def _tell(self, text: str) -> None:
        """Print a sentence in the language in use, dimmed."""
        self._say(shown(text), "dim")

    def _say(self, text: str, style: str = "") -> None:
        print_sentence(self.console, text, style)


@dataclass
class Growing:
    """An answer while it is generated."""

    text: str = ""
    cut: bool = False
    """Whether it ended only because it reached the length limit."""
