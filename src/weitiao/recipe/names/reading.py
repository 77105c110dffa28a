"""Reads settings under other tools' names: run file, flags and words are layered, then the names are translated.

A setting's own name takes precedence over another tool's name for it. Upper layers win; two names in one layer that
disagree are refused together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...core.dotted_names import by_dotted_name
from ...core.errors import Problem
from ...core.settings import Settings, as_typed, merge
from .entries import Context, Given, Group, Reading, read_group
from .layers import MISSING, Layer, Theirs, looked_up
from .usual import UsualLayer
from .words import as_written

__all__ = ["Understood", "understand"]


@dataclass(frozen=True)
class Understood:
    """Settings under their names here, and how they were read."""

    raw: dict[str, Any]
    """The blocks of a run."""
    said: tuple[str, ...] = ()
    """A sentence for each name that was translated or has no effect here."""
    problems: tuple[Problem, ...] = ()
    """Names and values that cannot be read."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """A dotted setting -> the names it was read from, for errors about its value."""
    refused: frozenset[str] = frozenset()
    """Settings that are missing because a name for them could not be read."""


@dataclass(frozen=True)
class _Read:
    """One group's reading, and the layer of its names."""

    names: tuple[Given, ...]
    targets: tuple[str, ...]
    reading: Reading
    layer: int

    @property
    def is_usual(self) -> bool:
        """Whether nobody gave any of the names: all are defaults of config objects."""
        return all(one.usual for one in self.names)

    @property
    def written(self) -> str:
        return ", ".join(map(str, self.names))


def understand(layers: Sequence[Layer]) -> Understood:
    """Combine the layers and translate every name from another tool."""
    own, own_layers = _own(layers)
    last = layers[-1]
    context = _context(own, last)
    every = [_read(group, members, context) for group, members in _groups(layers)]
    reads = [one for one in every if not _is_replaced(one, own_layers)]
    problems = [problem for layer in layers for problem in layer.problems]
    problems += [] if context.processes else [_no_number_of_processes()]
    problems += [problem for one in reads for problem in one.reading.problems]
    settings: dict[str, _Read] = {}
    for one in reads:
        for target in one.reading.settings:
            problem = _settle(target, one, settings, own, own_layers)
            problems += [problem] if problem else []
    said = [line for layer in layers for line in layer.said]
    problems += _exclude(reads, settings, own, own_layers)
    said += [line for one in reads if _counts(one, settings, own) for line in one.reading.said]
    said += _usual_lines(layers, own, own_layers, settings)
    return Understood(
        _applied(own, settings),
        tuple(dict.fromkeys(said)),
        tuple(problems),
        {target: " and ".join(given.name for given in one.names) for target, one in settings.items()},
        frozenset(target for one in reads if one.reading.problems for target in one.targets),
    )


def _usual_lines(
    layers: Sequence[Layer],
    own: Mapping[str, Any],
    own_layers: Mapping[str, int],
    settings: Mapping[str, _Read],
) -> Iterator[str]:
    """Yield a line for each layer of config objects' defaults, if any of them takes effect."""
    for number, layer in enumerate(layers):
        if isinstance(layer, UsualLayer):
            here = {name: looked_up(own, name) for name, where in own_layers.items() if where == number}
            here = {name: value for name, value in here.items() if name not in settings}
            here |= {
                name: one.reading.settings[name]
                for name, one in settings.items()
                if one.is_usual and one.layer == number
            }
            if line := layer.line(here):
                yield line


def _is_replaced(one: _Read, own_layers: Mapping[str, int]) -> bool:
    """Return whether a name that could not be read is overridden by a layer above, under its name here."""
    above = any(own_layers.get(target, -1) > one.layer for target in one.targets)
    return above and bool(one.reading.problems)


def _own(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the settings under their names here, and the layer number of each."""
    own: dict[str, Any] = {}
    where: dict[str, int] = {}
    for number, layer in enumerate(layers):
        for block in layer.replaces:
            own.pop(block, None)
        own = merge(own, layer.own)
        where |= dict.fromkeys(by_dotted_name(layer.own), number)
    return own, where


def _context(own: Mapping[str, Any], last: Layer) -> Context:
    method = last.method
    return Context(
        own=by_dotted_name(own),
        method=last.method_name,
        method_settings=frozenset(method.model_fields if method else ()),
        elsewhere=method.known_elsewhere if method else {},
        processes=_processes(os.environ.get("WORLD_SIZE", "1")),
    )


def _processes(size: str) -> int:
    """Return how many processes a launcher started; 0 if its variable is not a valid number."""
    return int(size) if size.isascii() and size.isdigit() and len(size) < 10 else 0


def _no_number_of_processes() -> Problem:
    what = "the environment variable WORLD_SIZE is not a number of processes"
    expected = "a whole number of at least 1, which torchrun sets by itself"
    return Problem(what, os.environ["WORLD_SIZE"], expected, "unset WORLD_SIZE")


def _groups(layers: Sequence[Layer]) -> Iterator[tuple[Group, list[tuple[int, Theirs]]]]:
    """Yield the groups with their names from all layers; a name in an upper layer replaces the one below."""
    found: dict[int, tuple[Group, dict[str, tuple[int, Theirs]]]] = {}
    for number, layer in enumerate(layers):
        for one in layer.theirs:
            _, members = found.setdefault(id(one.entry.group), (one.entry.group, {}))
            members[one.entry.key] = (number, one)
    yield from ((group, list(members.values())) for group, members in found.values())


def _read(group: Group, members: list[tuple[int, Theirs]], context: Context) -> _Read:
    """Read the given names of one group."""
    given = {one.entry.key: one.given for _, one in members}
    layer = max(number for number, _ in members)
    reading = read_group(group, given, context)
    if all(one.usual for one in given.values()):
        reading = Reading(reading.settings)
    return _Read(tuple(given.values()), group.targets, reading, layer)


def _layer_of(target: str, own_layers: Mapping[str, int]) -> int:
    """Return the layer number of a setting, also of one inside a list of blocks; -1 if it is not set."""
    found = own_layers.get(target)
    return own_layers.get(target.rpartition(".")[0], -1) if found is None else found


def _settle(
    target: str,
    one: _Read,
    settings: dict[str, _Read],
    own: Mapping[str, Any],
    own_layers: Mapping[str, int],
) -> Problem | None:
    """Apply one setting of a reading unless a layer above sets it; return a problem if its own layer disagrees."""
    value, already = one.reading.settings[target], looked_up(own, target)
    if already is not MISSING and (layer := _layer_of(target, own_layers)) >= one.layer:
        if layer == one.layer and same(already, value):
            settings[target] = one
        elif layer == one.layer and not one.is_usual:
            return _contradiction(target, f"{target}: {as_written(already)}", already, one)
        return None
    other = settings.get(target)
    if other is None or other.layer < one.layer:
        settings[target] = one
    elif other.layer == one.layer and not one.is_usual and not same(other.reading.settings[target], value):
        return _contradiction(target, other.written, other.reading.settings[target], one)
    return None


def _exclude(
    reads: Sequence[_Read],
    settings: dict[str, _Read],
    own: Mapping[str, Any],
    own_layers: Mapping[str, int],
) -> Iterator[Problem]:
    """Replace values from lower layers that a name excludes; yield a problem if its own layer has such a value."""
    for one in reads:
        for target, (values, instead) in one.reading.excludes.items():
            other = settings.get(target)
            value = other.reading.settings[target] if other else looked_up(own, target)
            layer = other.layer if other else own_layers.get(target, -1)
            if value not in values:
                continue
            wanted = replace(one, reading=Reading({target: instead}, one.reading.said))
            if layer == one.layer:
                written = other.written if other else f"{target}: {as_written(value)}"
                yield _contradiction(target, written, value, wanted)
            elif layer < one.layer:
                settings[target] = wanted


def same(one: object, other: object) -> bool:
    """Return whether two values mean the same."""
    return one == other or str(one) == str(other)


def _contradiction(target: str, written: str, value: object, one: _Read) -> Problem:
    wanted = one.reading.settings[target]
    ways = [f"{target}{as_typed(as_written(one))}" for one in (value, wanted)]
    typed = all("=" in way for way in ways) and not any(map(_is_block, (value, wanted)))
    remedy = " or ".join(ways) if typed else f"leave {' and '.join(given.name for given in one.names)} out"
    what = f"two names of {target} have different values"
    return Problem(what, f"{written}, {one.written}", "one of them, or the same value for both", remedy)


def _is_block(value: object) -> bool:
    """Return whether a value is a block or a list of blocks, which cannot be typed as a word."""
    return isinstance(value, Mapping) or (
        isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value)
    )


def _counts(one: _Read, settings: Mapping[str, _Read], own: Mapping[str, Any]) -> bool:
    """Return whether a reading is in force: its exclusions hold, and it sets nothing or one of its settings counts."""
    wanted = one.reading.settings
    for target, (values, _) in one.reading.excludes.items():
        other = settings.get(target)
        if (other.reading.settings[target] if other else looked_up(own, target)) in values:
            return False
    return not wanted or any(settings.get(target) is one for target in wanted)


def _applied(own: Mapping[str, Any], settings: Mapping[str, _Read]) -> dict[str, Any]:
    """Apply the readings to the blocks; settings of nested blocks come last."""
    raw = dict(own)
    for target in sorted(settings, key=lambda name: name.count(".")):
        value = settings[target].reading.settings[target]
        for part in reversed(target.split(".")):
            value = {part: value}
        block = target.partition(".")[0]
        if isinstance(raw.get(block), Settings):
            raw[block] = raw[block].model_dump(exclude_unset=True)
        raw = merge(raw, value)
    return raw
