"""Traces a chat template: runs it once per shape of conversation, with stand-ins in place of the contents.

A stand-in is one private-use character that records what the template does to it. Copying needs no record. Stripping
and splitting create a new stand-in, whose value is computed for each row. A test (is it empty? does it contain
`</think>`?) is answered for the current row and recorded as a condition under which the plan holds. Any other operation
ends the trace, and such rows are rendered one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

FIRST_MARK = 0xF0000  # plane 15 is for private use
MARK = re.compile("([\U000f0000-\U000ffffd])")


class Untraceable(Exception):
    """The template performs an operation that a plan cannot repeat."""


@dataclass(frozen=True)
class TraceStep:
    """An operation on a text with stand-ins: it creates a new stand-in, or checks a condition."""

    text: tuple[str | int, ...]
    """Plain text and the numbers of stand-ins."""
    apply: Callable[..., Any]
    arguments: tuple[Any, ...]
    outcome: Any = None
    """The value that a condition must have; unused if the step creates a stand-in."""
    makes: bool = False

    def of(self, values: Sequence[str]) -> Any:  # noqa: ANN401  (a text or an answer)
        """Apply the operation to a row's values."""
        return self.apply(filled(self.text, values), *self.arguments)


@dataclass
class Trace:
    """The stand-ins of one run of the template, their values in the current row, and the operations on them."""

    values: list[str]
    """The row's own texts, then those derived from them."""
    steps: list[TraceStep] = field(default_factory=list)

    def stand_ins(self) -> list[Traced]:
        """Return one stand-in for each of the row's texts."""
        return [Traced(chr(FIRST_MARK + number), self) for number in range(len(self.values))]

    def make(self, text: str, apply: Callable[..., str], *arguments: Any) -> Traced:  # noqa: ANN401
        """Return a new stand-in for the result of `apply` on a text."""
        step = TraceStep(parsed(text), apply, arguments, makes=True)
        self.steps.append(step)
        self.values.append(step.of(self.values))
        return Traced(chr(FIRST_MARK + len(self.values) - 1), self)

    def ask(self, text: str, apply: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        """Return the result of a test on a text for the current row, and record it as a condition."""
        if not MARK.search(text):
            return apply(text, *arguments)
        asked = TraceStep(parsed(text), apply, arguments)
        outcome = asked.of(self.values)
        self.steps.append(TraceStep(asked.text, apply, arguments, outcome))
        return outcome

    def holds_for(self, values: Sequence[str]) -> list[str] | None:
        """Return another row's values, including the derived ones; None if a condition fails."""
        known = list(values)
        for step in self.steps:
            came = step.of(known)
            if step.makes:
                known.append(came)
            elif came != step.outcome:
                return None
        return known


def _forbid(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise Untraceable(f"the template uses {name} on a content")

    return refuse


# Forbidden are all methods of str, except those it inherits unchanged from object; but __str__ and __repr__ too.
# `untraced` needs __getnewargs__.
_REDEFINED = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__format__"}
_FORBIDDEN = set(dir(str)) - (set(dir(object)) - _REDEFINED - {"__str__", "__repr__"}) - {"__getnewargs__"}
_Closed: Any = type("_Closed", (str,), {name: _forbid(name) for name in _FORBIDDEN})
"""A text type on which every operation ends the trace; Traced allows some of them again."""


class Traced(_Closed):  # type: ignore[misc]
    """A text that contains stand-ins."""

    trace: Trace
    made: dict[Any, Traced]

    def __new__(cls, text: str, trace: Trace) -> Traced:
        """Wrap a text that contains stand-ins of a trace."""
        made: Traced = super().__new__(cls, text)
        made.trace, made.made = trace, {}
        return made

    def __str__(self) -> str:
        return self

    def __add__(self, other: object) -> Traced:
        return Traced(str.__add__(self, _text(other)), self.trace)

    def __radd__(self, other: object) -> Traced:
        return Traced(str.__add__(_text(other), self), self.trace)

    def __bool__(self) -> bool:
        return bool(self.trace.ask(untraced(self), bool))

    __hash__ = _Closed.__hash__

    def __iter__(self) -> Iterator[str]:
        raise Untraceable("the template goes through a content's characters")
        yield ""  # unreachable; makes this a generator function

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return False
        if isinstance(other, Traced):
            raise Untraceable("two contents are compared")
        return bool(self.trace.ask(untraced(self), str.__eq__, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, other: object) -> bool:
        return bool(self.trace.ask(untraced(self), str.__contains__, _constant(other)))

    def startswith(self, *arguments: Any) -> bool:  # noqa: ANN401
        """Return whether the content starts so in the current row; recorded as a condition."""
        return bool(self.trace.ask(untraced(self), str.startswith, *map(_constant, arguments)))

    def endswith(self, *arguments: Any) -> bool:  # noqa: ANN401
        """Return whether the content ends so in the current row; recorded as a condition."""
        return bool(self.trace.ask(untraced(self), str.endswith, *map(_constant, arguments)))

    def strip(self, chars: str | None = None, /) -> Traced:
        """Return a stand-in for the stripped content."""
        return self._derived(str.strip, _constant(chars))

    def lstrip(self, chars: str | None = None, /) -> Traced:
        """Return a stand-in for the content stripped at its beginning."""
        return self._derived(str.lstrip, _constant(chars))

    def rstrip(self, chars: str | None = None, /) -> Traced:
        """Return a stand-in for the content stripped at its end."""
        return self._derived(str.rstrip, _constant(chars))

    def split(self, sep: str | None = None, maxsplit: int = -1) -> list[Traced]:
        """Return stand-ins for the parts; raises Untraceable if it is split at whitespace (no `sep`)."""
        if not isinstance(sep, str):
            raise Untraceable("a content is split at blanks")
        count = self.trace.ask(untraced(self), _parts, _constant(sep), maxsplit)
        return [self._derived(_part, sep, maxsplit, number) for number in range(count)]

    def _derived(self, apply: Callable[..., str], *arguments: Any) -> Traced:  # noqa: ANN401
        key = (apply, arguments)
        if key not in self.made:
            self.made[key] = self.trace.make(untraced(self), apply, *arguments)
        return self.made[key]


def is_traced(value: object) -> bool:
    """Return whether a value (a text, list or dict) contains a stand-in."""
    if isinstance(value, Traced):
        return True
    if isinstance(value, Mapping):
        return any(map(is_traced, value.values()))
    return isinstance(value, list | tuple) and any(map(is_traced, value))


def parsed(text: str) -> tuple[str | int, ...]:
    """Split a text into plain parts and the numbers of its stand-ins."""
    pieces = MARK.split(text)
    return tuple(
        ord(piece) - FIRST_MARK if number % 2 else piece for number, piece in enumerate(pieces) if piece
    )


def filled(text: Sequence[str | int], values: Sequence[str]) -> str:
    """Return a text with its stand-ins replaced by values."""
    return "".join([values[one] if isinstance(one, int) else one for one in text])


def _parts(text: str, sep: str, maxsplit: int) -> int:
    return len(text.split(sep, maxsplit))


def _part(text: str, sep: str, maxsplit: int, number: int) -> str:
    return text.split(sep, maxsplit)[number]


def untraced(text: str) -> str:
    """Return a text as a plain str, with its stand-ins as characters but without recording."""
    bare: str = str.__getnewargs__(text)[0]
    return bare


def _text(value: object) -> str:
    if isinstance(value, Traced):
        return untraced(value)
    if not isinstance(value, str):
        raise Untraceable("a content is added to what is no text")
    return value


def _constant(value: Any) -> Any:  # noqa: ANN401  (an argument)
    if is_traced(value):
        raise Untraceable("a content is an argument")
    return value
