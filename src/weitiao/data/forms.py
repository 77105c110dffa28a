"""The forms a row is parsed into: conversation, text, preference, label and others. Each format produces one of them.

`parts` returns the texts of a form that go through the model, so that lengths, masks and control tokens are checked
in the same way for every form and objective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from functools import cache
from typing import Any, ClassVar

from .conversation import Conversation, Message
from .example import Label

Turns = tuple[Message, ...]
Tools = tuple[Mapping[str, Any], ...]
"""The functions the assistant may call, as JSON schemas."""


@dataclass(frozen=True)
class Placed:
    """The fields every form has: location, draws per epoch, task."""

    place: str
    """The location of its row, as `file:line`."""
    draws: float = 1.0
    """How many times it is drawn per epoch."""
    task: str = ""
    """The task it belongs to, if the data has several."""


@dataclass(frozen=True)
class Text(Placed):
    """Plain text for continued pretraining; every token is trained."""

    kind: ClassVar[str] = "text"
    text: str = ""


@dataclass(frozen=True)
class Preference(Placed):
    """A prompt with a better and a worse answer."""

    kind: ClassVar[str] = "preference"
    prompt: Turns = ()
    """The turns up to the question: system, user and earlier assistant turns."""
    chosen: Turns = ()
    """The better answer, usually one assistant message."""
    rejected: Turns = ()
    margin: float = 0.0
    """By how much the chosen answer is better, from the data's margin or scores; 0 if it has none."""
    reason: str = ""
    """The reason for the preference, if the data gives one."""
    tools: Tools = field(default=(), hash=False)


@dataclass(frozen=True)
class Unpaired(Placed):
    """One answer and whether it is wanted (KTO, https://arxiv.org/abs/2402.01306)."""

    kind: ClassVar[str] = "unpaired"
    prompt: Turns = ()
    completion: Turns = ()
    label: bool = True
    tools: Tools = field(default=(), hash=False)


@dataclass(frozen=True)
class Scored(Placed):
    """A prompt with answers, each with a reward."""

    kind: ClassVar[str] = "scored"
    prompt: Turns = ()
    completions: tuple[Turns, ...] = ()
    scores: tuple[float, ...] = ()
    tools: Tools = field(default=(), hash=False)


@dataclass(frozen=True)
class Choice(Placed):
    """A question with several answers, one of which is right (rank classification)."""

    kind: ClassVar[str] = "choice"
    prompt: Turns = ()
    choices: tuple[str, ...] = ()
    correct: int = 0
    """The index of the right answer, from 0."""


@dataclass(frozen=True)
class Labelled(Placed):
    """A text, or a pair of texts, with one label, or with any number of labels if the data is multi-label."""

    kind: ClassVar[str] = "labelled"
    text: str = ""
    second: str = ""
    """The second text of a pair, such as a hypothesis."""
    labels: tuple[str, ...] = ()
    multi: bool = False
    """Whether the data has lists of labels (multi-label)."""


@dataclass(frozen=True)
class Tagged(Placed):
    """Words with a label each, in BIO form (named entities, parts of speech)."""

    kind: ClassVar[str] = "tagged"
    tokens: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair(Placed):
    """A source text and its target text (translation, summarization)."""

    kind: ClassVar[str] = "pair"
    source: str = ""
    target: str = ""


@dataclass(frozen=True)
class Tokens(Placed):
    """Token ids from pre-tokenized data, trained as they are."""

    kind: ClassVar[str] = "tokens"
    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    """The loss weight of each token; 0 marks context."""


AnyForm = Conversation | Text | Preference | Unpaired | Scored | Choice | Labelled | Tagged | Pair | Tokens
FORMS: Mapping[str, type[AnyForm]] = {
    "conversation": Conversation,
    **{one.kind: one for one in (Text, Preference, Unpaired, Scored, Choice, Labelled, Tagged, Pair, Tokens)},
}
"""The name of a form, as in `Format.form` -> its class."""


def kind_of_form(form: AnyForm) -> str:
    """Return a form's name in `FORMS`."""
    return "conversation" if isinstance(form, Conversation) else form.kind


def parts(form: AnyForm) -> tuple[tuple[str, Conversation | Text | Tokens], ...]:
    """Return the parts of a form that go through a causal model, as (name of the part, what to render)."""
    match form:
        case Conversation() | Text() | Tokens():
            return (("", form),)
        case Preference():
            return (("chosen", _talk(form, form.chosen)), ("rejected", _talk(form, form.rejected)))
        case Unpaired():
            return (("completion", _talk(form, form.completion)),)
        case Scored():
            return tuple(
                (f"completion {n}", _talk(form, turns)) for n, turns in enumerate(form.completions, 1)
            )
        case Choice():
            return tuple(
                (f"choice {n}", _talk(form, (Message("assistant", text),)))
                for n, text in enumerate(form.choices, 1)
            )
        case Labelled():
            text = f"{form.text}\n{form.second}" if form.second else form.text
            return (("text", Text(form.place, form.draws, form.task, text)),)
        case Tagged():
            return (("text", Text(form.place, form.draws, form.task, " ".join(form.tokens))),)
        case Pair():
            turns = (Message("user", form.source), Message("assistant", form.target))
            return (("", Conversation(turns, form.place, form.draws, task=form.task)),)


def _talk(form: Preference | Unpaired | Scored | Choice, answer: Turns) -> Conversation:
    tools = () if isinstance(form, Choice) else form.tools
    return Conversation((*form.prompt, *answer), form.place, form.draws, tools, form.task)


LABELLED = frozenset({"preference", "unpaired", "scored", "choice", "labelled", "tagged"})
"""The forms with a label besides their texts."""


def label_of(form: AnyForm) -> Label:
    """Return the label of a row: the margin of a preference, whether an answer is wanted, the scores of answers, the
    index of the right choice, labels, or tags; None for forms that are only text."""
    match form:
        case Preference():
            return form.margin
        case Unpaired():
            return form.label
        case Scored():
            return form.scores
        case Choice():
            return form.correct
        case Labelled():
            return form.labels
        case Tagged():
            return form.tags
        case _:
            return None


def with_texts(form: AnyForm, change: Callable[[str], str]) -> AnyForm:
    """Return a form with `change` applied to every text that comes from the data's author."""
    fields = {name: getattr(form, name) for name in _texts(kind_of_form(form))}
    changed = {name: _changed(value, change) for name, value in fields.items()}
    return form if changed == fields else replace(form, **changed)


@cache
def _texts(kind: str) -> tuple[str, ...]:
    """Return the names of a form's fields that hold text or turns."""
    return tuple(one.name for one in dataclass_fields(FORMS[kind]) if one.name not in NOT_TEXT)


NOT_TEXT = (
    "place",
    "draws",
    "task",
    "tools",
    "labels",
    "tags",
    "margin",
    "scores",
    "correct",
    "multi",
    "label",
    "ids",
    "weights",
)


def _changed(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401  (a field of any form)
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Message):
        content = change(value.content)
        extra = {name: change(one) if isinstance(one, str) else one for name, one in value.extra.items()}
        same = content is value.content and extra == value.extra
        return value if same else replace(value, content=content, extra=extra)
    return tuple(_changed(inner, change) for inner in value)


LEFT_OUT = ("place", "draws")
"""Fields that are not stored with a form; the reader of the store passes them to `form_from_plain`."""


def form_to_plain(form: AnyForm) -> dict[str, Any]:
    """Return a form as plain values for JSON, without its place and draws."""
    plain: dict[str, Any] = {"form": kind_of_form(form)}
    for name in _stored(kind_of_form(form)):
        plain[name] = _plain(getattr(form, name))
    return plain


@cache
def _stored(kind: str) -> tuple[str, ...]:
    """Return the fields of a form that are stored."""
    return tuple(one.name for one in dataclass_fields(FORMS[kind]) if one.name not in LEFT_OUT)


def _plain(value: Any) -> Any:  # noqa: ANN401  (a field of any form)
    """Return a field's value for JSON; many times faster than dataclasses.asdict, which copies recursively."""
    if isinstance(value, Message):
        return {"role": value.role, "content": value.content, "weight": value.weight, "extra": value.extra}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def form_from_plain(plain: Mapping[str, Any], place: str, draws: float) -> AnyForm:
    """Return the form that `form_to_plain` wrote, with its place and draws."""
    cls = FORMS[plain["form"]]
    fields = {key: _turns_back(key, value) for key, value in plain.items() if key != "form"}
    return cls(place=place, draws=draws, **fields)


TURNS = ("messages", "prompt", "chosen", "rejected", "completion")
"""Fields that hold messages."""


def _turns_back(key: str, value: Any) -> Any:  # noqa: ANN401  (plain values of any field)
    if key in TURNS:
        return tuple(Message(**message) for message in value)
    if key == "completions":
        return tuple(tuple(Message(**message) for message in turns) for turns in value)
    return tuple(value) if isinstance(value, list) else value
