"""Several adapters on one base, all ready to answer, with the base's weights in memory once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.errors import Problem, SettingsError, raise_all
from ..models.fingerprint import read_fingerprint
from .locate import Source
from .open_model import Opened, opened_on

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def open_several(sources: Mapping[str, Source]) -> dict[str, Opened]:
    """Open several adapters (each a run, an adapter's folder or a checkpoint) under short names.

    The base is loaded once and its weights are shared. Raises SettingsError if one is not an adapter or was trained on
    another base than the first, and what `open_located` raises.
    """
    from ..models.load import load_model

    raise_all(SettingsError, [*_no_adapters(sources), *_other_bases(sources)])
    first = next(iter(sources.values()))
    model, opened = load_model(first.base), {}
    for name, source in sources.items():
        one = opened_on(_with_shared_weights(model), replace(source, base=first.base))
        if one.attached is None:
            raise SettingsError(_no_adapter(name, source))
        opened[name] = one
    return opened


def _with_shared_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model's modules that shares its tensors, so that an adapter changes only the copy."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _no_adapters(sources: Mapping[str, Source]) -> list[Problem]:
    return [
        _no_adapter(name, source)
        for name, source in sources.items()
        if source.adapter is None and source.checkpoint is None
    ]


def _no_adapter(name: str, source: Source) -> Problem:
    place = source.trained.name if source.trained else source.base.name
    whole = "it is a complete model" if source.trained else "it holds nothing trained"
    return Problem(
        f"{name} is not an adapter that can be switched: {whole}",
        f"--adapter {name}={place}",
        "a run that trained an adapter, or an adapter's folder",
        f"weitiao chat {place}",
    )


def _other_bases(sources: Mapping[str, Source]) -> list[Problem]:
    """Describe adapters whose base differs from the first one's, in both name and fingerprint."""
    first_name, first = next(iter(sources.items()))
    return [
        Problem(
            f"{name} was trained on another base than {first_name}, so one chat cannot hold both",
            f"{first_name}: {first.base.name}; {name}: {source.base.name}",
            "adapters of one base",
            "a chat for each: weitiao chat RUN",
        )
        for name, source in sources.items()
        if source.base.name != first.base.name and not _is_same_base(source, first)
    ]


def _is_same_base(one: Source, other: Source) -> bool:
    prints = [read_fingerprint(source.adapter) if source.adapter else None for source in (one, other)]
    return all(prints) and prints[0] == prints[1]
