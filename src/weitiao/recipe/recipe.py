"""The run file: one block a part, each beside its own code; read, checked and written as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SerializeAsAny

from ..core.errors import Problem, SettingsError, nearest, raise_all
from ..core.registry import Registry
from ..core.settings import Settings, check_settings, merge, parse_overrides, read_yaml
from ..data.settings import DataSettings, replay_spelt_out, require_usable_name
from ..engine.settings import TrainSettings
from ..engine.tracking import TrackSettings
from ..evaluation.answers import EvaluateSettings
from ..methods import METHODS
from ..methods._base import Method
from ..models.settings import ModelSettings
from ..objectives import OBJECTIVES
from ..objectives._base import Objective

S = TypeVar("S", bound=Settings)
Checked = tuple[Settings | None, list[Problem]]


def _absolute(path: str | None) -> str | None:
    """Return a path that exists spelt out; what is none (a hub id, an alias) as it is."""
    return path if path is None or not Path(path).exists() else str(Path(path).absolute())


DECIDES_NOTHING = (
    "model.hub",
    "train.pack_tokens",
    "train.gradient_checkpointing",
    "train.offload_activations",
    "train.frozen_cache",
    "train.kernels",
    "train.matmul",
    "train.compile",
    "train.save_every",
    "train.keep_checkpoints",
    "evaluate",
    "track",
    "out",
    "model.device_map",
    "model.allow_other_base",
)
"""Settings that decide no trained number, so that a resumed run may have others."""


def dotted(nested: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{path}.{key}" if path else str(key)
        flat |= dotted(value, name) if isinstance(value, Mapping) and value else {name: value}
    return flat


class Recipe(Settings):
    """A whole run: everything that decides its result."""

    model: ModelSettings
    """Which model to start from."""
    data: DataSettings
    """What is trained on."""
    method: SerializeAsAny[Method]
    """What of the model is trained."""
    objective: SerializeAsAny[Objective]
    """What is minimised."""
    train: TrainSettings = TrainSettings()
    """How it is trained."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """What is asked before and after."""
    track: TrackSettings = TrackSettings()
    """Where the curves go."""
    out: Path
    """The run's folder; new or empty."""

    @property
    def lr(self) -> float:
        """The peak learning rate: the one given, else the method's on a model of the width it was measured at."""
        return self.train.lr or self.method.suggested_lr

    def with_absolute_paths(self) -> Recipe:
        """Return the recipe with every path that exists spelt out, so that its run works from any folder."""
        sources = [source.model_copy(update={"path": _absolute(source.path)}) for source in self.data.sources]
        replay = self.data.replay
        if replay is not None and not replay.asks_the_model:
            replay = replay.model_copy(update={"answers": _absolute(replay.answers)})
        held_out_path = _absolute(self.data.held_out_path)
        data = {"sources": sources, "held_out_path": held_out_path, "replay": replay}
        model = {"name": _absolute(self.model.name), "adapter": _absolute(self.model.adapter)}
        return self.model_copy(
            update={
                "data": self.data.model_copy(update=data),
                "model": self.model.model_copy(update=model),
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, from which `parse_recipe` makes an equal one."""
        plain = self.model_dump(mode="json")
        for key, part in (("method", self.method), ("objective", self.objective)):
            plain[key] = {"name": part.name, **plain[key]}
        return plain

    def decides(self) -> dict[str, Any]:
        """Return, by dotted name, the settings that decide the trained numbers."""
        return {
            name: value
            for name, value in dotted(self.as_dict()).items()
            if not any(name == free or name.startswith(f"{free}.") for free in DECIDES_NOTHING)
        }

    def as_yaml(self) -> str:
        """Return the run file."""
        import yaml

        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True)


DEFAULT_NAMES: Mapping[str, Any] = {"method": {"name": "lora"}, "objective": {"name": "sft"}}
"""What a run is where it does not say: LoRA, supervised fine-tuning."""


def lay_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over others key by key; another method or objective brings none of the first one's settings."""
    kept = dict(base)
    for key in DEFAULT_NAMES:
        old, new = base.get(key), over.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            name = old.get("name", DEFAULT_NAMES[key]["name"])
            if new.get("name", name) != name:
                del kept[key]
    return merge(kept, over)


def read_recipe(path: Path | None, overrides: Mapping[str, Any], words: list[str] | None = None) -> Recipe:
    """Read a run file, lay flags and then dotted words over it, and check it all; raises SettingsError."""
    raw = read_yaml(path) if path else {}
    return parse_recipe(
        lay_over(lay_over(spelt_out(raw), spelt_out(overrides)), spelt_out(parse_overrides(words or [])))
    )


def parse_recipe(raw: Mapping[str, Any]) -> Recipe:
    """Build a recipe from plain values or settings objects; raises SettingsError with all problems of all blocks."""
    blocks = lay_over(DEFAULT_NAMES, spelt_out(raw))
    problems = _unknown_blocks(blocks)
    parsed: dict[str, Any] = {}
    for name, check in BLOCKS.items():
        if name not in blocks:
            problems += [_missing(name)] if Recipe.model_fields[name].is_required() else []
            continue
        value, found = check(blocks[name])
        problems += found
        parsed[name] = value
    raise_all(SettingsError, problems)
    return Recipe.model_validate(parsed)


def spelt_out(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the short forms `model: NAME`, `method: lora` into blocks, so that overrides can be laid over them."""
    short = {"model": "name", "method": "name", "objective": "name", "data": "sources"}
    blocks = {
        key: {short[key]: value} if key in short and not isinstance(value, Mapping | Settings) else value
        for key, value in raw.items()
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
    """Turn paths into sources, so that overrides such as data.sources.encoding reach each of them."""
    listed = sources if isinstance(sources, list | tuple) else [sources]
    if any(isinstance(one, str | Path) for one in listed):
        return [{"path": str(one)} if isinstance(one, str | Path) else one for one in listed]
    return sources


def _plain_block(cls: type[Settings], path: str) -> Callable[[Any], Checked]:
    def check(value: Any) -> Checked:  # noqa: ANN401  (whatever the run file holds)
        if isinstance(value, cls):
            return value, []
        if not isinstance(value, Mapping):
            return None, [Problem(f"{path} is no block of settings", f"{path}: {value!r}", "keys and values")]
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
    what = "out is no folder"
    if isinstance(value, str | Path) and str(value).strip():
        try:
            require_usable_name(str(value))
            return Path(value).expanduser(), []
        except ValueError as error:
            what = f"out cannot be used: {error}"
    return None, [Problem(what, f"out: {value!r}", "the path of a new folder", "--out RUN")]


BLOCKS: Mapping[str, Callable[[Any], tuple[Any, list[Problem]]]] = {
    "model": _plain_block(ModelSettings, "model"),
    "data": _plain_block(DataSettings, "data"),
    "method": _named_block(METHODS, Method, "method"),
    "objective": _named_block(OBJECTIVES, Objective, "objective"),
    "train": _plain_block(TrainSettings, "train"),
    "evaluate": _plain_block(EvaluateSettings, "evaluate"),
    "track": _plain_block(TrackSettings, "track"),
    "out": _out,
}


def _unknown_blocks(blocks: Mapping[str, Any]) -> list[Problem]:
    """Describe keys that are no block; a setting written one level too high is told where it belongs."""
    problems = []
    for key in blocks:
        if key not in BLOCKS:
            homes = [f"{block}.{key}" for block in homes_of(key, blocks)]
            remedy = " or ".join(homes or nearest(key, BLOCKS))
            problems.append(
                Problem(
                    f"there is no block {key}",
                    f"{key}: {blocks[key]!r}",
                    "one of " + ", ".join(BLOCKS),
                    remedy,
                )
            )
    return problems


def homes_of(key: str, blocks: Mapping[str, Any]) -> list[str]:
    """Return the blocks that have a setting of this name, the chosen method's among them."""
    classes: dict[str, type[Settings]] = {
        "model": ModelSettings,
        "data": DataSettings,
        "train": TrainSettings,
        "evaluate": EvaluateSettings,
        "track": TrackSettings,
    }
    method = blocks.get("method")
    name = method.get("name") if isinstance(method, Mapping) else method
    if isinstance(method, Method):
        classes["method"] = type(method)
    elif name in METHODS.names():
        classes["method"] = METHODS.load(str(name))
    return [block for block, cls in classes.items() if key in cls.model_fields or key in cls.known_elsewhere]


def _missing(name: str) -> Problem:
    flags = {"model": "--model smollm2-135m", "data": "--data my.json", "out": "--out RUN"}
    return Problem(
        f"{name} is missing", expected=str(Recipe.model_fields[name].description), remedy=flags[name]
    )
