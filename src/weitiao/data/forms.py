"""What a row can mean: a conversation to learn, a text, a preference, a label. Each format gives one of these.

Every form says which texts of it go through a model (`parts`), so that lengths, masks and control tokens are
checked in the same way for all of them, whatever objective will train them.
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
    """What every form has: where it comes from, how often an epoch sees it, and its task."""

    place: str
    """Where it comes from, as `file:line`."""
    weight: float = 1.0
    """How many times an epoch sees it."""
    task: str = ""
    """The task it belongs to, where the data has several."""


@dataclass(frozen=True)
class Text(Placed):
    """Plain text, every token of which is learnt (continued pretraining)."""

    kind: ClassVar[str] = "text"
    text: str = ""


@dataclass(frozen=True)
class Preference(Placed):
    """A prompt with a better and a worse answer."""

    kind: ClassVar[str] = "preference"
    prompt: Turns = ()
    """Up to the question; system, user and earlier assistant turns."""
    chosen: Turns = ()
    """The better answer: mostly one assistant message."""
    rejected: Turns = ()
    margin: float = 0.0
    """By how much the chosen one is better, from the data's scores; 0 where it has none."""
    reason: str = ""
    """Why the chosen one is better, as the data says it."""
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
    """The index of the right one, from 0."""


@dataclass(frozen=True)
class Labelled(Placed):
    """A text, or a pair of texts, with labels; none, one or (multi-label) several."""

    kind: ClassVar[str] = "labelled"
    text: str = ""
    second: str = ""
    """The other text of a pair, such as a hypothesis."""
    labels: tuple[str, ...] = ()
    multi: bool = False
    """Whether the data gives lists of labels."""


@dataclass(frozen=True)
class Tagged(Placed):
    """Words with a label each, in BIO form (named entities, parts of speech)."""

    kind: ClassVar[str] = "tagged"
    tokens: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair(Placed):
    """A source text and the target to make of it (translation, summaries)."""

    kind: ClassVar[str] = "pair"
    source: str = ""
    target: str = ""


@dataclass(frozen=True)
class Tokens(Placed):
    """Token ids as they are trained, made by somebody else."""

    kind: ClassVar[str] = "tokens"
    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    """The loss weight of each: 0 is context."""


AnyForm = Conversation | Text | Preference | Unpaired | Scored | Choice | Labelled | Tagged | Pair | Tokens
FORMS: Mapping[str, type[AnyForm]] = {
    "conversation": Conversation,
    **{one.kind: one for one in (Text, Preference, Unpaired, Scored, Choice, Labelled, Tagged, Pair, Tokens)},
}
"""What a format calls the form it gives -> its class."""


def kind_of_form(form: AnyForm) -> str:
    """Return a form's name in `FORMS`."""
    return "conversation" if isinstance(form, Conversation) else form.kind


def parts(form: AnyForm) -> tuple[tuple[str, Conversation | Text | Tokens], ...]:
    """Return what of a form goes through a causal model: (the part's name, what is rendered)."""
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
            return (("text", Text(form.place, form.weight, form.task, text)),)
        case Tagged():
            return (("text", Text(form.place, form.weight, form.task, " ".join(form.tokens))),)
        case Pair():
            turns = (Message("user", form.source), Message("assistant", form.target))
            return (("", Conversation(turns, form.place, form.weight, task=form.task)),)


def _talk(form: Preference | Unpaired | Scored | Choice, answer: Turns) -> Conversation:
    tools = () if isinstance(form, Choice) else form.tools
    return Conversation((*form.prompt, *answer), form.place, form.weight, tools, form.task)


LABELLED = frozenset({"preference", "unpaired", "scored", "choice", "labelled", "tagged"})
"""The forms that say something beside their texts."""


def label_of(form: AnyForm) -> Label:
    """Return what a row says beside its texts: the margin of a preference, whether an answer is wanted, the scores of
    answers, the index of the right choice, labels, or tags; None for what is only text."""
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
    """Return a form with every text that a person wrote into it changed."""
    fields = {name: getattr(form, name) for name in _texts(kind_of_form(form))}
    changed = {name: _changed(value, change) for name, value in fields.items()}
    return form if changed == fields else replace(form, **changed)


@cache
def _texts(kind: str) -> tuple[str, ...]:
    """Return the fields of a form that hold what a person wrote."""
    return tuple(one.name for one in dataclass_fields(FORMS[kind]) if one.name not in NOT_TEXT)


NOT_TEXT = (
    "place",
    "weight",
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


LEFT_OUT = ("place", "weight")
"""What a stored form gets back from where it stands."""


def form_to_plain(form: AnyForm) -> dict[str, Any]:
    """Return a form as plain values for JSON, without its place and weight."""
    plain: dict[str, Any] = {"form": kind_of_form(form)}
    for name in _stored(kind_of_form(form)):
        plain[name] = _plain(getattr(form, name))
    return plain


@cache
def _stored(kind: str) -> tuple[str, ...]:
    """Return the fields of a form that are stored."""
    return tuple(one.name for one in dataclass_fields(FORMS[kind]) if one.name not in LEFT_OUT)


def _plain(value: Any) -> Any:  # noqa: ANN401  (a field of any form)
    """Return a field's value for JSON; many times faster than dataclasses.asdict, which copies all the way down."""
    if isinstance(value, Message):
        return {"role": value.role, "content": value.content, "weight": value.weight, "extra": value.extra}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def form_from_plain(plain: Mapping[str, Any], place: str, weight: float) -> AnyForm:
    """Return the form that `form_to_plain` wrote, at its place."""
    cls = FORMS[plain["form"]]
    fields = {key: _turns_back(key, value) for key, value in plain.items() if key != "form"}
    return cls(place=place, weight=weight, **fields)


TURNS = ("messages", "prompt", "chosen", "rejected", "completion")


def _turns_back(key: str, value: Any) -> Any:  # noqa: ANN401  (plain values of any field)
    if key in TURNS:
        return tuple(Message(**message) for message in value)
    if key == "completions":
        return tuple(tuple(Message(**message) for message in turns) for turns in value)
    return tuple(value) if isinstance(value, list) else value
