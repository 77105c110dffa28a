"""Limits on what a chat template may do: steps, characters, list items, digits of numbers.

Steps are counted, not timed: whether a row is refused must not depend on the load of the machine, or on Python's
garbage collector.

A large value is refused before it is created if its size follows from its inputs, else right after. A value made by a
template never exceeds `MOST_CHARACTERS` and `MOST_ITEMS`, with nested values counted as often as they would be written
out. So comparing, hashing or writing it is bounded as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import jinja2

Made = TypeVar("Made")

MOST_STEPS = 2_000_000
"""For one rendering. A step takes a fraction of a microsecond to a microsecond; long rows need a twentieth of this."""
STEPS_AN_ITEM = 2_000
"""Added for each message or other item of the input: some templates loop over all messages for each message."""
STEPS_A_TURN = 4
"""Cost of one call of a function or filter; a loop iteration, or the call of a macro, is two more."""
ITEMS_A_STEP = 4
CHARACTERS_A_STEP = 512
"""Characters that are searched in the time of one step."""
MOST_CHARACTERS = 20_000_000
"""Characters of one value."""
MOST_IN_ALL = 64_000_000
"""Characters of all values that one rendering makes, in addition to `COPIES` times its input."""
COPIES = 512
MOST_ITEMS = 1_000_000
MOST_SOURCE = 300_000
"""Characters of a template's source; published templates have up to 30,000."""
MOST_POWER = 1_000
"""Characters that each bit of a product or power counts as: numbers of more than 20,000 bits are refused."""
MOST_WIDTH = 10_000
"""For numbers that a filter takes as a width, a count or a precision."""
MOST_SLOW = 100_000
"""Characters given to a filter that processes them in Python or with a regular expression."""
MOST_INDENT = 32
MOST_DATE = 200
MOST_COMPARED = 200_000_000
"""Pairs of characters that a reverse search or a strip may compare."""
PERCENT_FIELD = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(?:\*|\d*)(?:\.(?:\*|\d*))?")
BRACE_FIELD = re.compile(r"\{[^{}]*\{?")
WIDTH = re.compile(r"\d+")


class TooCostly(jinja2.TemplateError):
    """A template exceeds a limit."""


@dataclass
class Spent:
    """The steps and characters that one rendering has left."""

    steps_left: int = MOST_STEPS
    characters_left: int = MOST_IN_ALL
    given: object = None
    """The input. Its size raises both limits, but is measured only when a limit is reached."""

    def take(self, characters: int) -> None:
        """Count characters that were made; raises TooCostly above the limit."""
        self.characters_left -= characters
        if self.characters_left < 0:
            self._allow_for_what_is_given()
        if self.characters_left < 0:
            raise TooCostly("it makes too many characters in all")

    def go(self, steps: int) -> None:
        """Count steps; raises TooCostly above the limit."""
        self.steps_left -= steps
        if self.steps_left < 0:
            self._allow_for_what_is_given()
        if self.steps_left < 0:
            raise TooCostly("it takes too many steps")

    def _allow_for_what_is_given(self) -> None:
        if self.given is None:
            return
        items, characters = _Weigher(counts=False).of(self.given)
        self.given = None
        self.characters_left += COPIES * characters
        self.steps_left += STEPS_AN_ITEM * items


_spent: ContextVar[Spent] = ContextVar("spent")


@contextmanager
def limited(given: object = None) -> Iterator[None]:
    """Apply the limits within the context; `given` is the input, whose size raises them."""
    token = _spent.set(Spent(given=given))
    try:
        yield
    finally:
        _spent.reset(token)


def tick(turns: int = 1) -> None:
    """Count a loop iteration, call or filter; raises TooCostly after too many."""
    _spent.get().go(turns * STEPS_A_TURN)


def read(value: object) -> None:
    """Count the steps to go through a whole value (to search a text, compare a list); raises TooCostly."""
    if isinstance(value, str):
        _spent.get().go(str.__len__(value) // CHARACTERS_A_STEP)
    elif isinstance(value, Collection) and not isinstance(value, range):
        _spent.get().go(weight(value)[0] // ITEMS_A_STEP)


def within(characters: int) -> None:
    """Raise TooCostly if `characters` exceeds the limit for one value."""
    if characters > MOST_CHARACTERS:
        raise TooCostly(f"it makes more than {MOST_CHARACTERS} characters at once")


def within_items(items: int) -> None:
    """Raise TooCostly if `items` exceeds the limit for one value."""
    if items > MOST_ITEMS:
        raise TooCostly(f"it makes a list of more than {MOST_ITEMS} items")


def made(value: Made) -> Made:
    """Return a value that a template has just made; raises TooCostly if it, or all values together, are too large."""
    if isinstance(value, str):
        characters = str.__len__(value)
        within(characters)
    elif isinstance(value, Collection) and not isinstance(value, range):
        characters = 8 * len(value)
        _check_weight(value)
    else:
        return value
    _spent.get().take(characters)
    return value


def size(value: object) -> int:
    """Return the number of characters of a text or items of a collection, 0 for anything else."""
    if isinstance(value, str):
        return str.__len__(value)
    return len(value) if isinstance(value, Collection) else 0


def weight(value: object) -> tuple[int, int]:
    """Return (items, characters) of a value, with nested values counted as often as they would be written out."""
    return _Weigher().of(value)


def within_product(left: object, right: object) -> None:
    """Raise TooCostly if `left * right` is too large."""
    for value, count in ((left, right), (right, left)):
        if isinstance(count, int) and isinstance(value, Collection):
            items, characters = weight(value)
            within(characters * count)
            within_items(0 if isinstance(value, str) else items * count)
    if isinstance(left, int) and isinstance(right, int):
        within((left.bit_length() + right.bit_length()) * MOST_POWER)


def within_power(left: object, right: object) -> None:
    """Raise TooCostly if `left ** right` has too many digits."""
    if isinstance(left, int) and isinstance(right, int):
        within(left.bit_length() * abs(right) * MOST_POWER)


def within_sum(left: object, right: object) -> None:
    """Raise TooCostly if the text or list `left + right` is too large."""
    if isinstance(left, str):
        within(size(left) + size(right))
    elif isinstance(left, Collection):
        within_items(size(left) + size(right))


def within_percent(text: str, values: object) -> None:
    """Raise TooCostly if `text % values` could be too large."""
    each = values if isinstance(values, tuple) else (values,)
    _within_fields(text, [found[0] for found in PERCENT_FIELD.finditer(text)], each)


def within_braces(text: str, values: Sequence[object]) -> None:
    """Raise TooCostly if `text.format(*values)` could be too large."""
    fields = [found[0] for found in BRACE_FIELD.finditer(text.replace("{{", "").replace("}}", ""))]
    _within_fields(text, fields, values)


def _within_fields(text: str, fields: Sequence[str], values: Sequence[object]) -> None:
    width = 0
    for found in fields:
        if "*" in found or "{" in found[1:]:
            raise TooCostly("it takes the width of a field from a value")
        widths = [int(number[:9]) for number in WIDTH.findall(found)]
        if max(widths, default=0) > MOST_WIDTH:
            raise TooCostly("it asks for a very wide field")
        width += sum(widths)
    within(size(text) + width + len(fields) * max(map(_written, values), default=0))


def _written(value: object) -> int:
    """Return an upper bound for the characters of a value written as text."""
    if isinstance(value, str):
        return str.__len__(value)
    items, characters = weight(value)
    return 30 * items + 10 * characters


def within_path(value: object, settings: Sequence[object]) -> None:
    """Raise TooCostly if reading a path such as `a.b.c` in every item takes too many look-ups."""
    dots = max((one.count(".") for one in settings if isinstance(one, str)), default=0)
    within_items(dots * size(value))


def within_join(separator: str, values: object) -> None:
    """Raise TooCostly if the joined values are too large a text."""
    within(size(separator) * size(values) + weight(values)[1])


def within_replace(text: str, old: str, new: str) -> None:
    """Raise TooCostly if the text with `old` replaced by `new` is too large."""
    within(size(text) + (text.count(old) + 1) * size(new))


def within_comparisons(text: str, other: str) -> None:
    """Raise TooCostly if comparing every character of one text with every one of another takes too long."""
    if size(text) * size(other) > MOST_COMPARED:
        raise TooCostly("it searches a long text for another one")


def within_width(values: Sequence[object]) -> None:
    """Raise TooCostly if a number is too large for a width, a count or a precision."""
    if any(isinstance(value, int) and abs(value) > MOST_WIDTH for value in values):
        raise TooCostly(f"it gives a filter or method a number above {MOST_WIDTH}")


def _check_weight(value: object) -> None:
    items, characters = weight(value)
    within_items(items)
    within(characters)


class _Weigher:
    """Measures the size of nested values; visits a value used several times only once. Counts as steps."""

    def __init__(self, counts: bool = True) -> None:
        self._counts = counts
        self._known: dict[int, tuple[int, int]] = {}
        self._kept: list[object] = []
        """Keeps temporary lists alive: otherwise Python could reuse their ids, which are keys of `_known`."""

    def of(self, value: object) -> tuple[int, int]:
        """Return (items, characters) of a value."""
        if isinstance(value, str):
            return 1, str.__len__(value)
        if isinstance(value, int):
            return 1, value.bit_length() // 3  # about its decimal digits
        if not isinstance(value, Collection) or isinstance(value, range):
            return 1 + size(value), 0
        if id(value) not in self._known:
            self._known[id(value)] = self._sum(value)
        return self._known[id(value)]

    def _sum(self, value: Collection[object]) -> tuple[int, int]:
        inner = [*value.keys(), *value.values()] if isinstance(value, Mapping) else [*value]
        self._kept.append(inner)
        if self._counts:
            _spent.get().go(len(inner))
        items, characters = 1, 0
        for one in inner:
            own = self.of(one)
            items, characters = items + own[0], characters + own[1]
        return items, characters
