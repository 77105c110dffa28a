"""Building blocks of the table of other tools' names: a name, and the reader that translates it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...core.errors import Problem
from ...core.settings import Unfit
from .words import NoSwitch, as_written, is_true

NO_EFFECT = (None, False, 0, 0.0, "", "none", "no", "false", "None")
"""Values that request nothing, as do empty lists and blocks."""


@dataclass(frozen=True)
class Given:
    """A name as it was typed, and its value."""

    name: str
    value: Any
    usual: bool = False
    """Whether it is a config object's default, which nobody gave."""

    def __str__(self) -> str:
        return f"{self.name}: {as_written(self.value)}"


@dataclass(frozen=True)
class Context:
    """What a reader may use besides the names it reads."""

    own: Mapping[str, Any]
    """The run's settings under their names here, by dotted name."""
    method: str
    """The name of the run's method."""
    method_settings: frozenset[str]
    """The names of that method's settings."""
    elsewhere: Mapping[str, str]
    """Other tools' names for that method's settings -> their names here."""
    processes: int
    """Number of processes that share a step; 0 if it cannot be read."""


@dataclass(frozen=True)
class Reading:
    """The result of reading names: settings by dotted name, sentences about them, and problems."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    excludes: Mapping[str, tuple[tuple[Any, ...], Any]] = field(default_factory=dict)
    """A dotted setting -> the values that the names exclude, and the replacement if a lower layer has such a value."""


Reader = Callable[[Mapping[str, Given], Context], Reading]
"""Reads the given names of a group; raises Unfit for a value without a counterpart."""


@dataclass(frozen=True)
class Group:
    """Names that are read together."""

    reader: Reader
    targets: tuple[str, ...] = ()
    """The settings that the reader may set, by dotted name."""


@dataclass(frozen=True)
class Name:
    """One name from another tool."""

    name: str
    group: Group
    home: str
    """The block it belongs to in a run file with blocks."""
    becomes: str
    """A dotted setting, or a sentence on why there is none."""
    source: str = ""
    """The tool it comes from."""
    part: str = ""
    """The name that the group's reader uses, if it is an alias."""
    inside_only: bool = False
    """Whether it is read only in its own block, because elsewhere the name is too general."""

    @property
    def key(self) -> str:
        """The name under which the group's reader knows it."""
        return self.part or self.name


class NotYet(Unfit):
    """Raised for a value that requests something not supported yet."""

    def __init__(self, what: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(f"{what} is not there yet", expected, remedy)
        self.what = what


def read_group(group: Group, given: Mapping[str, Given], context: Context) -> Reading:
    """Read the names of one group; a value without a counterpart becomes a problem."""
    try:
        return group.reader(given, context)
    except NoSwitch as error:
        one = next(one for one in given.values() if one.value is error.value)
        what = f"{one.name} cannot be read: {error}"
        problem = Problem(what, str(one), error.expected, error.remedy_for(one.name))
        return Reading(problems=(problem,))
    except Unfit as error:
        names = " and ".join(one.name for one in given.values())
        got = ", ".join(map(str, given.values()))
        what = f"{names} cannot be read: {error}"
        if isinstance(error, NotYet):
            what = f"{names}: {error.what} is not there yet"
        return Reading(problems=(Problem(what, got, error.expected, error.remedy),))


def renamed(target: str, value: Callable[[Any], Any] | None = None) -> Group:
    """Read one name as a setting; `value` converts its values and returns None to leave the setting unset."""

    def read(given: Mapping[str, Given], _: Context) -> Reading:
        (one,) = given.values()
        if one.value is None:
            return Reading(said=(f"{one.name}: null, which leaves {target} as it is here",))
        if value is None:
            return Reading({target: one.value}, (f"{one.name}, read as {target}",))
        converted = value(one.value)
        if converted is None:
            return Reading(said=(f"{one}, which is how it is here",))
        if converted == one.value:
            return Reading({target: converted}, (f"{one.name}, read as {target}",))
        return Reading({target: converted}, (f"{one}, read as {target}={as_written(converted)}",))

    return Group(read, (target,))


def switch(target: str, meaning: Any, otherwise: Any = None, left: Any = "auto") -> Group:  # noqa: ANN401
    """Read yes as `meaning` and no as `otherwise`; if that is None, no replaces `meaning` from below with `left`."""

    def read(given: Mapping[str, Given], _: Context) -> Reading:
        (one,) = given.values()
        if one.value is None:
            return Reading(said=(f"{one.name}: null, which leaves {target} as it is here",))
        value = meaning if is_true(one.value) else otherwise
        if value is None:
            excluded = {} if one.usual else {target: ((meaning,), left)}
            return Reading(said=(f"{one}, which is how it is here",), excludes=excluded)
        return Reading({target: value}, (f"{one}, read as {target}={as_written(value)}",))

    return Group(read, (target,))


def switched(home: str, name: str, target: str, *values: Any) -> Name:  # noqa: ANN401
    """Return a name that is a switch; `values` are the further arguments of `switch`."""
    return Name(name, switch(target, *values), home, target)


def without_meaning(reason: str) -> Group:
    """Accept one name with any value, and say why it has no effect; the value may be a secret, so it is not shown."""

    def read(given: Mapping[str, Given], _: Context) -> Reading:
        return Reading(said=tuple(f"{one.name} means nothing here: {reason}" for one in given.values()))

    return Group(read)


def not_there_yet(what: str, harmless: tuple[Any, ...] = ()) -> Group:
    """Accept one name with a value that requests nothing (or a `harmless` one), and refuse all other values."""

    def read(given: Mapping[str, Given], _: Context) -> Reading:
        (one,) = given.values()
        if asks_for_nothing(one.value, harmless):
            return Reading(said=(f"{one}, which is how it is here",))
        usual = as_written(harmless[0] if harmless else default_of(one.value))
        raise NotYet(what, f"{usual}, or leave it out", f"{one.name}={usual}")

    return Group(read)


def asks_for_nothing(value: object, harmless: tuple[Any, ...] = ()) -> bool:
    """Return whether a value is equivalent to leaving its name out."""
    if isinstance(value, list | dict | tuple | set):
        return not value
    return value in NO_EFFECT or value in harmless


def default_of(value: object) -> Any:  # noqa: ANN401  (whatever asks for nothing)
    """Return the value of the same type that requests nothing."""
    return False if isinstance(value, bool) else None


def reads(home: str, settings: Mapping[str, str], *, inside_only: bool = False) -> Iterator[Name]:
    """Yield a name for each item of `settings`: another tool's name -> the setting here, with the same values."""
    for name, target in settings.items():
        yield Name(name, renamed(target), home, target, inside_only=inside_only)


def converted(home: str, name: str, target: str, value: Callable[[Any], Any]) -> Name:
    """Return a name whose values are converted."""
    return Name(name, renamed(target, value), home, target)


def together(home: str, group: Group, becomes: str, names: str) -> Iterator[Name]:
    """Yield names, separated by blanks, that one group reads; `alias/name` declares an alias."""
    for word in names.split():
        name, _, part = word.partition("/")
        yield Name(name, group, home, becomes, part=part or name)


def nothing(home: str, reason: str, names: str) -> Iterator[Name]:
    """Yield names, separated by blanks, that have no effect here, all for the same reason."""
    for name in names.split():
        yield Name(name, without_meaning(reason), home, reason)


def not_supported(home: str, what: str, names: str, harmless: tuple[Any, ...] = ()) -> Iterator[Name]:
    """Yield names, separated by blanks, for something that is not supported yet."""
    for name in names.split():
        yield Name(name, not_there_yet(what, harmless), home, f"not there yet: {what}")


def inside(names: Iterable[Name]) -> Iterator[Name]:
    """Yield the names, restricted to their own block."""
    return (replace(one, inside_only=True) for one in names)


def of_source(source: str, *parts: Iterable[Name]) -> tuple[Name, ...]:
    """Return all names of one tool."""
    return tuple(replace(one, source=source) for part in parts for one in part)
