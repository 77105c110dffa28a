"""The blocks of a run file: the fields of `Recipe`, each defined next to its code, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import PrivateAttr, SerializeAsAny
from pydantic.fields import FieldInfo

from ..core.dotted_names import by_dotted_name
from ..core.registry import Registry
from ..core.settings import DECIDES_NOTHING, Settings, deciding_nothing
from ..data.settings import DataSettings
from ..engine.runtime.tracking import TrackSettings
from ..engine.settings import TrainSettings
from ..evaluation.answers import EvaluateSettings
from ..methods import METHODS
from ..methods._base import MEASURED_WIDTH, Method
from ..models.settings import ModelSettings
from ..objectives import OBJECTIVES
from ..objectives._base import Objective


@dataclass(frozen=True)
class Bare:
    """Marks a block that may be one value: `model: NAME` means `model: {name: NAME}`."""

    setting: str


@dataclass(frozen=True)
class Named:
    """Marks a block whose `name` is a component of a registry, which defines its other settings."""

    registry: Registry[Any]
    default: str
    """The component of a run file that names none."""


def _absolute(path: str | None) -> str | None:
    """Return an existing path as an absolute one; anything else (a hub id, an alias) unchanged."""
    return path if path is None or not Path(path).exists() else str(Path(path).absolute())


@dataclass(frozen=True)
class Origin:
    """What a recipe was read from; it does not count when recipes are compared."""

    said: tuple[str, ...] = field(default=(), compare=False)


class Recipe(Settings):
    """A whole run: everything that decides its result."""

    model: Annotated[ModelSettings, Bare("name")]
    """Which model to start from."""
    data: Annotated[DataSettings, Bare("sources")]
    """What is trained on."""
    method: Annotated[SerializeAsAny[Method], Named(METHODS, "lora")]
    """What of the model is trained."""
    objective: Annotated[SerializeAsAny[Objective], Named(OBJECTIVES, "sft")]
    """What is minimised."""
    train: TrainSettings = TrainSettings()
    """How it is trained."""
    evaluate: Annotated[EvaluateSettings, DECIDES_NOTHING] = EvaluateSettings()
    """What is asked before and after."""
    track: Annotated[TrackSettings, DECIDES_NOTHING] = TrackSettings()
    """Where the curves go."""
    out: Annotated[Path, DECIDES_NOTHING]
    """The run's folder; new or empty."""

    _origin: Origin = PrivateAttr(default=Origin())

    @property
    def said(self) -> tuple[str, ...]:
        """One sentence for each name that was read as another tool's, or has no meaning here."""
        return self._origin.said

    def read_as(self, said: tuple[str, ...]) -> Recipe:
        """Return the recipe with the sentences about the names it was read from."""
        recipe = self.model_copy()
        recipe._origin = Origin(said)
        return recipe

    @property
    def lr(self) -> float:
        """The peak learning rate: the given one, else the method's at the model width where it was measured."""
        return self.train.lr or self.lr_for(MEASURED_WIDTH)

    def lr_for(self, width: int) -> float:
        """Return the default peak learning rate for a model of this width (hidden size), to two digits."""
        return float(f"{self.method.lr_for(width) * self.objective.lr_factor:.2g}")

    def with_absolute_paths(self) -> Recipe:
        """Return the recipe with existing paths made absolute, so that its run can be used from any folder."""
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
        """Return the recipe as plain values, which `parse_recipe` turns into an equal one."""
        plain = self.model_dump(mode="json")
        named: dict[str, Method | Objective] = {"method": self.method, "objective": self.objective}
        return plain | {key: {"name": part.name, **plain[key]} for key, part in named.items()}

    def decides(self) -> dict[str, Any]:
        """Return the settings that determine the trained numbers, by dotted name."""
        free = deciding_nothing(self)
        return {
            name: value
            for name, value in by_dotted_name(self.as_dict()).items()
            if not any(name == one or name.startswith(f"{one}.") for one in free)
        }

    def as_yaml(self) -> str:
        """Return the run file as YAML."""
        import yaml

        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class RunBlock:
    """A block of a run file, as a field of `Recipe` declares it."""

    cls: type[Settings] | None
    """The class of its settings, for a named block the base of all classes; None for `out`, which is one value."""
    bare: str
    """The setting that the block means where it is one value; empty if it must be a block."""
    named: Named | None
    """The registry of its classes, if it is a named block."""


def _block(field: FieldInfo) -> RunBlock:
    kind = field.annotation
    is_block = isinstance(kind, type) and issubclass(kind, Settings)
    named = next((mark for mark in field.metadata if isinstance(mark, Named)), None)
    bare = next((mark.setting for mark in field.metadata if isinstance(mark, Bare)), "name" if named else "")
    return RunBlock(cast(type[Settings], kind) if is_block else None, bare, named)


BLOCKS: Mapping[str, RunBlock] = {name: _block(field) for name, field in Recipe.model_fields.items()}
"""Every top-level key of a run file, in the order of `Recipe`."""

NAMED: Mapping[str, Named] = {name: block.named for name, block in BLOCKS.items() if block.named}
"""The blocks that name a component of a registry."""

DEFAULT_NAMES: Mapping[str, Any] = {name: {"name": named.default} for name, named in NAMED.items()}
"""The defaults: LoRA and supervised fine-tuning."""


def _nested(cls: type[Settings], path: str) -> dict[str, type[Settings]]:
    """Return the blocks within a block that always exist, by dotted path; a list counts as one block."""
    found = {}
    for name, inner in cls.model_fields.items():
        kind = get_args(inner.annotation)[0] if get_origin(inner.annotation) is list else inner.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            found[f"{path}.{name}"] = kind
    return found


OUTER: Mapping[str, type[Settings]] = {
    name: block.cls for name, block in BLOCKS.items() if block.cls and not block.named
}
"""The blocks whose settings do not depend on a method or objective, by name."""

FIXED: Mapping[str, type[Settings]] = {
    **OUTER,
    **{path: inner for name, cls in OUTER.items() for path, inner in _nested(cls, name).items()},
}
"""The same with the blocks within them, by dotted path."""
