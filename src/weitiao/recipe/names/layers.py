"""One layer of settings (run file, flags or words), separated into our own names and other tools' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from ...core.dotted_names import by_dotted_name, nested_at
from ...core.errors import Problem, SettingsError
from ...core.registry import Registry
from ...core.settings import Settings, merge, parse_overrides
from ...methods import METHODS
from ...methods._aliases import read_as
from ...methods._base import Method
from ...objectives import OBJECTIVES
from ...objectives._base import Objective
from ..blocks import BLOCKS, NAMED
from .configs import as_mapping
from .entries import Given, Group, Name, Reading, renamed
from .methods_names import method_name
from .own import Blocks, blocks_for, homes, spelling
from .own_values import OWN_VALUES
from .table import CONTAINERS, entry, letters
from .words import as_written, plain_value

T = TypeVar("T")

MISSING = object()
"""Stands for a setting that is not given."""


@dataclass(frozen=True)
class Theirs:
    """Another tool's name with its value, and its entry in the table."""

    entry: Name
    given: Given


class Layer:
    """The settings of one layer, separated by kind."""

    def __init__(
        self, raw: Mapping[str, Any], before: Layer | None = None, method: str | None = None
    ) -> None:
        """Sort the names; the method is that of the layer below, unless this one or `method` names another."""
        self.own: dict[str, Any] = {}
        self.theirs: list[Theirs] = []
        self.said: list[str] = []
        self.problems: list[Problem] = []
        named = method or named_method(raw)
        below: str = before.method_name if before else NAMED["method"].default
        self.method_name: str = named or below
        self.method: type[Method] | None = class_of(METHODS, self.method_name)
        objective_below = before.objective if before else class_of(OBJECTIVES, NAMED["objective"].default)
        block = _objective_block(raw)
        self.objective: type[Objective] | None = (
            objective_below if block is None else class_of(OBJECTIVES, block)
        )
        # Another method or objective does not inherit the settings of the one below.
        changed = {
            "method": self.method_name != below,
            "objective": self.objective is not objective_below,
        }
        self.replaces = [block for block, is_other in changed.items() if is_other]
        self._blocks: Blocks = blocks_for({"method": self.method, "objective": self.objective})
        self._typed: dict[str, str] = {}
        self._walk("", raw)

    def _walk(self, path: str, settings: Mapping[str, Any]) -> None:
        for key, value in settings.items():
            self._take(path, str(key), value)

    def _take(self, path: str, key: str, value: Any) -> None:  # noqa: ANN401
        """Sort one key of a block (`""` is the top level)."""
        own = spelling(key, self._own_names(path))
        if own is not None:
            self._take_own(f"{path}.{own}" if path else own, value, key)
        elif letters(key) in CONTAINERS and isinstance(as_mapping(value), Mapping | None):
            self._walk_config(CONTAINERS[letters(key)], as_mapping(value) or {})
        elif (not path and self._place(key, value)) or self._take_theirs(path, key, value):
            return
        elif not path or not self._place(key, value):
            self._put(f"{path}.{key}" if path else key, value, key)  # the block's own check refuses it

    def _walk_config(self, path: str, config: Mapping[str, Any]) -> None:
        """Sort a config inside a config; its `name` is a method, or the way a model is quantised."""
        for key, value in config.items():
            self._take(path, "quantization_method" if key == "name" and path == "model" else key, value)

    def _own_names(self, path: str) -> Mapping[str, object]:
        if not path:
            return BLOCKS
        cls = self._blocks.get(path)
        named = {"name": None} if path in NAMED else {}
        return {**named, **(cls.model_fields if cls else {})}

    def _take_own(self, dotted: str, value: Any, key: str) -> None:  # noqa: ANN401
        if dotted == "data.sources":
            self._put(dotted, _sources(value, self), key)
        elif isinstance(value, Mapping) and (dotted in self._blocks or dotted in BLOCKS):
            self.own = merge(nested_at(dotted, {}), self.own)
            self._walk(dotted, value)
        else:
            self._put(dotted, value, key)

    def _take_theirs(self, path: str, key: str, value: Any) -> bool:  # noqa: ANN401
        """Take a name that the table, the method or the objective knows; return whether it is known."""
        found = entry(key, path)
        if found is None or found.inside_only:
            chosen = {"method": self.method, "objective": self.objective}
            inside = {block: cls for block, cls in chosen.items() if path in ("", block) and cls is not None}
            own = (_of_component(block, cls, key) for block, cls in inside.items())
            found = next(filter(None, own), found)
        if found is not None:
            given = Given(key, plain_value(value))
            self._require_one_value(found, given)
            self.theirs.append(Theirs(found, given))
        return found is not None

    def _require_one_value(self, found: Name, given: Given) -> None:
        """Add a problem if two spellings of one name have different values."""
        for one in self.theirs:
            if one.entry.group is found.group and one.entry.key == found.key:
                if one.given.value != given.value:
                    got = f"{one.given}, {given}"
                    what = f"{one.given.name} and {given.name} mean the same but have different values"
                    self.problems.append(Problem(what, got, "one of them", f"leave {given.name} out"))
                self.theirs.remove(one)
                return

    def _place(self, key: str, value: Any) -> bool:  # noqa: ANN401
        """Move a setting without a block, or in the wrong block, to where it belongs; return whether it is known."""
        found = homes(key, self._blocks)
        if found and value is None:
            self.said.append(f"{key}: null, which leaves {' and '.join(found)} as it is here")
        elif len(found) == 1:
            already = len(self.said)
            self._put(found[0], value, key)
            self.said += [f"{key}, read as {found[0]}"] if len(self.said) == already else []
        elif found:
            self.theirs.append(Theirs(Name(key, _ambiguous(found), "", key), Given(key, value)))
        return bool(found)

    def _put(self, dotted: str, value: Any, key: str) -> None:  # noqa: ANN401
        """Set one setting; a second, different value in this layer is a problem."""
        changed = OWN_VALUES[dotted](value) if dotted in OWN_VALUES else None
        if changed is not None:
            dotted, value, said = changed
            self.said.append(said)
        if dotted == "method.name":
            value = self._method(value)
        before = looked_up(self.own, dotted)
        if before is not MISSING and before != value:
            got = f"{self._typed.get(dotted, dotted)}: {as_written(before)}, {key}: {as_written(value)}"
            remedy = f"{dotted}={as_written(before)} or {dotted}={as_written(value)}"
            self.problems.append(Problem(f"{dotted} is given twice", got, "one of them", remedy))
        self._typed[dotted] = key
        self.own = merge(self.own, nested_at(dotted, value))

    def _method(self, typed: Any) -> Any:  # noqa: ANN401
        """Return a method's name here; settings that another tool's name implies are set too."""
        name = METHODS.spelling(str(typed))
        if name is not None or not isinstance(typed, str):
            return name or typed
        words = read_as(typed)
        if words is None:
            return typed
        given = Given("method", typed)
        for dotted, value in by_dotted_name(parse_overrides(words[1:])).items():
            entry_made = Name("method", _fixed(dotted, value), "", dotted)
            self.theirs.append(Theirs(entry_made, given))
        self.said.append(f"method {typed}, read as {' '.join(words)}")
        return words[0].partition("=")[2]


def _sources(value: Any, layer: Layer) -> Any:  # noqa: ANN401
    """Return sources with their settings under our names."""
    if isinstance(value, list | tuple):
        return [_source(one, layer) for one in value]
    return _source(value, layer)


def _source(source: Any, layer: Layer) -> Any:  # noqa: ANN401
    if not isinstance(source, Mapping) or {"rows"} & set(source):
        return source
    known = layer._own_names("data.sources")
    if not all(spelling(str(key), known) or entry(str(key), "data.sources") for key in source):
        return source  # a row, or a source with an unknown key, which its own check refuses
    renamed_keys: dict[str, Any] = {}
    for key, value in source.items():
        found = None if spelling(str(key), known) else entry(str(key), "data.sources")
        if found is None or not found.becomes.startswith("data.sources."):
            renamed_keys[spelling(str(key), known) or key] = value
            continue
        renamed_keys[found.becomes.rpartition(".")[2]] = value
        layer.said.append(f"{key}, read as {found.becomes}")
    return renamed_keys


def _fixed(dotted: str, value: Any) -> Group:  # noqa: ANN401
    """Return a group that reads a name as one setting with a fixed value."""
    return Group(lambda given, context: Reading({dotted: value}), (dotted,))


def _ambiguous(found: list[str]) -> Group:
    """Return a group that refuses a name found in several blocks, unless a layer above sets one of them."""

    def read(given: Mapping[str, Given], context: object) -> Reading:
        (one,) = given.values()
        remedy = " or ".join(f"{home}={as_written(one.value)}" for home in found)
        what = f"{one.name} is a setting of several blocks"
        return Reading(problems=(Problem(what, str(one), "its block before it", remedy),))

    return Group(read, tuple(found))


def _of_component(block: str, cls: type[Settings], key: str) -> Name | None:
    """Return the entry for a name in a method's or objective's own list: a setting, or what to try instead."""
    ours = cls.known_elsewhere.get(key) or cls.known_elsewhere.get(letters(key))
    if ours is None:
        return None
    if ours in cls.model_fields:
        return Name(key, renamed(f"{block}.{ours}"), block, f"{block}.{ours}")
    names = [f"{block}.{name}" for name in ours.replace(" or ", ", ").split(", ")]
    name = cls.__module__.rpartition(".")[2]
    return Name(key, _no_counterpart(name, " or ".join(names)), block, ours)


def _no_counterpart(component: str, remedy: str) -> Group:
    """Return a group that refuses a name for which a method or objective has several settings."""

    def read(given: Mapping[str, Given], context: object) -> Reading:
        (one,) = given.values()
        what = f"{component} has no one setting for {one.name}"
        return Reading(problems=(Problem(what, str(one), "its own settings", remedy),))

    return Group(read)


def named_method(raw: Mapping[str, Any]) -> str | None:
    """Return the name here of the method that a layer chooses; None if it chooses none."""
    block = next((value for key, value in raw.items() if letters(str(key)) == "method"), None)
    if isinstance(block, Method):
        return block.name
    inside = [raw, block] if isinstance(block, Mapping) else [raw]
    inside += [
        as_mapping(value) for key, value in raw.items() if CONTAINERS.get(letters(str(key))) == "method"
    ]
    for place in inside:
        if not isinstance(place, Mapping):
            continue
        by_letters = {letters(str(key)): value for key, value in place.items()}
        keys = ("finetuning_type", "peft_type") if place is raw else ("name", "finetuning_type", "peft_type")
        for key in keys:
            if by_letters.get(key) is not None:
                return str(method_name(by_letters[key]))
    return None


def _objective_block(raw: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return a layer's block that chooses an objective; None if it chooses none."""
    block = next((value for key, value in raw.items() if letters(str(key)) == "objective"), None)
    return block if isinstance(block, Objective) or (isinstance(block, Mapping) and "name" in block) else None


def class_of(registry: Registry[T], block: Any) -> type[T] | None:  # noqa: ANN401
    """Return the class that a block, or a component's name, chooses; None for an unknown name, which the block's own
    check refuses."""
    if isinstance(block, Settings):
        return cast(type[T], type(block))
    name = block.get("name") if isinstance(block, Mapping) else block
    try:
        return registry.load(str(name))
    except SettingsError:
        return None


def looked_up(nested: Mapping[str, Any], dotted: str) -> Any:  # noqa: ANN401
    """Return the value under a dotted name, or MISSING."""
    value: Any = nested
    for part in dotted.split("."):
        if isinstance(value, Settings):
            value = value.model_dump(exclude_unset=True)
        if isinstance(value, list) and any(isinstance(one, Mapping) and part in one for one in value):
            found = [one[part] for one in value if isinstance(one, Mapping) and part in one]
            value = {part: found[0] if found == found[:1] * len(value) else found}
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value
