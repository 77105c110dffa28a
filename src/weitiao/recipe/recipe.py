"""Reads a run file: short forms spelt out, flags and words laid over it, every block checked, all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import Problem, SettingsError, nearest, raise_all
from ..core.registry import Registry
from ..core.settings import Settings, as_typed, check_settings, merge, parse_overrides, read_yaml
from ..data.settings import SourceSettings, replay_spelt_out, require_usable_name
from ..data.sources.python_rows import is_split
from .blocks import BLOCKS, DEFAULT_NAMES, RunBlock
from .blocks import Recipe as Recipe
from .names.configs import as_mapping
from .names.layers import Layer, class_of
from .names.own import blocks_for, setting_names, spelling
from .names.reading import Understood, understand
from .names.table import names_of_other_tools
from .names.usual import with_usual

S = TypeVar("S", bound=Settings)
Checked = tuple[Settings | None, list[Problem]]


def lay_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings key by key; a different method or objective drops the settings of the previous one."""
    kept = dict(base)
    for key in DEFAULT_NAMES:
        old, new = base.get(key), over.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            name = old.get("name", DEFAULT_NAMES[key]["name"])
            if new.get("name", name) != name:
                del kept[key]
    return merge(kept, over)


def read_recipe(path: Path | None, overrides: Mapping[str, Any], words: list[str] | None = None) -> Recipe:
    """Read a run file, apply flags and then dotted words, and check everything; raises SettingsError."""
    return parse_recipe(read_yaml(path) if path else {}, overrides, read_words(words or []))


def read_words(words: Sequence[str]) -> dict[str, Any]:
    """Turn words such as `method=ia3 method.r=4` into blocks; raises the errors of `parse_overrides`."""
    return parse_overrides(words, spelt_out)


def parse_recipe(raw: Mapping[str, Any], *over: Mapping[str, Any]) -> Recipe:
    """Build a recipe from plain values or settings objects, overridden by `over`; other tools' names are understood.

    Raises SettingsError with all problems of all blocks.
    """
    understood = understand_layers(raw, *over)
    blocks = lay_over(DEFAULT_NAMES, understood.raw)
    problems = [*understood.problems, *_unknown_blocks(blocks)]
    parsed: dict[str, Any] = {}
    for name, check in CHECKS.items():
        if name not in blocks or (name == "data" and _names_no_data(blocks[name])):
            problems += [_missing(name)] if Recipe.model_fields[name].is_required() else []
            continue
        value, found = check(blocks[name])
        problems += found
        parsed[name] = value
    refused = {
        f"{name} is missing" for target in understood.refused for name in (target, target.split(".")[0])
    }
    left = [problem for problem in problems if problem.what not in refused]
    raise_all(SettingsError, [_with_names(problem, understood.origins) for problem in left])
    return Recipe.model_validate(parsed).read_as(understood.said)


def understand_layers(*layers: Mapping[str, Any]) -> Understood:
    """Translate the settings of run file, flags and words, later ones overriding earlier ones, to their names here."""
    sorted_out: list[Layer] = []
    for raw in layers:
        sorted_out += with_usual(spelt_out(raw), sorted_out[-1] if sorted_out else None)
    return understand(sorted_out)


def _with_names(problem: Problem, origins: Mapping[str, str]) -> Problem:
    """Add to a setting's problem the name that the person wrote, or the nearest name of another tool."""
    key, _, value = problem.got.partition(": ")
    if key in origins:
        return replace(problem, got=f"{problem.got}, written as {origins[key]}")
    if problem.what == f"there is no setting {key}" and not problem.remedy:
        near = nearest(key.rpartition(".")[2], names_of_other_tools())
        return replace(problem, remedy=" or ".join(name + as_typed(value.strip("'")) for name in near))
    return problem


def spelt_out(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Expand the short forms `model: NAME`, `method: lora` into blocks, so that overrides can be applied."""
    short = {name: block.bare for name, block in BLOCKS.items() if block.bare}
    spelt_right = {key: spelling(str(key), dict.fromkeys(BLOCKS)) or key for key in raw}
    plain = {
        key if spelt_right[key] in raw else spelt_right[key]: [value]
        if is_split(value)
        else as_mapping(value)
        for key, value in raw.items()
    }
    blocks = {
        key: {short[key]: value} if key in short and not isinstance(value, Mapping | Settings) else value
        for key, value in plain.items()
    }
    data = blocks.get("data")
    if isinstance(data, Mapping):
        spelt = {"sources": _paths_spelt_out, "replay": replay_spelt_out}
        blocks["data"] = {
            **data,
            **{key: spell(data[key]) for key, spell in spelt.items() if key in data},
        }
    return blocks


def _paths_spelt_out(sources: Any) -> Any:  # noqa: ANN401  (whatever the run file holds)
    """Turn paths into sources, so that overrides such as data.sources.encoding apply to each."""
    listed = sources if isinstance(sources, list | tuple) else [sources]
    if any(isinstance(one, str | Path) for one in listed):
        return [{"path": str(one)} if isinstance(one, str | Path) else one for one in listed]
    return sources


def _plain_block(cls: type[Settings], path: str) -> Callable[[Any], Checked]:
    def check(value: Any) -> Checked:  # noqa: ANN401  (whatever the run file holds)
        if isinstance(value, cls):
            return value, []
        if not isinstance(value, Mapping):
            return None, [
                Problem(f"{path} is not a block of settings", f"{path}: {value!r}", "keys and values")
            ]
        return check_settings(cls, value, path)

    return check


def _named_block(registry: Registry[Any], base: type[Settings], path: str) -> Callable[[Any], Checked]:
    def check(value: Any) -> Checked:  # noqa: ANN401
        if isinstance(value, base):
            return value, []
        if not isinstance(value, Mapping) or "name" not in value:
            return None, [
                Problem(f"{path} has no name", f"{path}: {value!r}", f"{path}: {{name: NAME, ...}}")
            ]
        rest = {key: item for key, item in value.items() if key != "name"}
        try:
            cls = registry.load(str(value["name"]))
        except SettingsError as error:
            return None, list(error.problems)
        return check_settings(cls, rest, path)

    return check


def _out(value: Any) -> tuple[Any, list[Problem]]:  # noqa: ANN401
    what = "out is not a folder"
    if isinstance(value, str | Path) and str(value).strip():
        try:
            require_usable_name(str(value))
            return Path(value).expanduser(), []
        except ValueError as error:
            what = f"out cannot be used: {error}"
    return None, [Problem(what, f"out: {value!r}", "the path of a new folder", "--out RUN")]


def _checked_as(name: str, block: RunBlock) -> Callable[[Any], tuple[Any, list[Problem]]]:
    """Return the function that builds a block from plain values."""
    if block.cls is None:
        return _out
    if block.named is None:
        return _plain_block(block.cls, name)
    return _named_block(block.named.registry, block.cls, name)


CHECKS: Mapping[str, Callable[[Any], tuple[Any, list[Problem]]]] = {
    name: _checked_as(name, block) for name, block in BLOCKS.items()
}


def _unknown_blocks(blocks: Mapping[str, Any]) -> list[Problem]:
    """Describe keys that are neither a block nor a known name, with the nearest known name."""
    problems = []
    named = {
        name: class_of(block.named.registry, blocks[name])
        for name, block in BLOCKS.items()
        if block.named and name in blocks
    }
    for key in blocks:
        if key not in BLOCKS:
            known = [*BLOCKS, *setting_names(blocks_for(named)), *names_of_other_tools()]
            got = f"{key}: {blocks[key]!r}"
            what, expected = f"there is no setting {key}", "a block (" + ", ".join(BLOCKS) + ") or a setting"
            near = (name + as_typed(blocks[key]) for name in nearest(key, known))
            problems.append(Problem(what, got, expected, " or ".join(near)))
    return problems


def _names_no_data(block: Any) -> bool:  # noqa: ANN401
    """Return whether a data block sets options of its sources but names no source."""
    sources = block.get("sources") if isinstance(block, Mapping) else None
    settings = set(SourceSettings.model_fields) - {"path", "rows"}
    return isinstance(sources, Mapping) and bool(sources) and set(sources) <= settings


def _missing(name: str) -> Problem:
    flags = {"model": "--model smollm2-135m", "data": "--data my.json", "out": "--out RUN"}
    return Problem(
        f"{name} is missing", expected=str(Recipe.model_fields[name].description), remedy=flags[name]
    )
