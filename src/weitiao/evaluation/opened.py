"""Opening what one can talk to: a run, an adapter, or a plain model; with the base to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import Problem, RunFolderError
from ..core.run_folder import RunFolder
from ..core.settings import parse_settings, read_yaml
from ..models.settings import ModelSettings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..data.template import Kind, Template
    from ..methods._base import Attached

ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """What a name stands for, before any weights are loaded."""

    base: ModelSettings
    """The model before training."""
    adapter: Path | None = None
    """The adapter trained on it."""
    trained: ModelSettings | None = None
    """The whole trained model, where the method changed the model's own weights."""
    template: Kind = "auto"
    """How turns become text."""


@dataclass
class Opened:
    """A model ready to answer."""

    source: Source
    model: PreTrainedModel
    """What answers: the base, the trained model, or PEFT's wrapper around the base."""
    tokenizer: PreTrainedTokenizerBase
    template: Template
    attached: Attached | None = None
    """The adapter, where there is one."""
    _base: PreTrainedModel | None = field(default=None, repr=False)

    @property
    def is_trained(self) -> bool:
        """Whether there is a base to compare with."""
        return self.attached is not None or self.source.trained is not None

    @contextmanager
    def as_base(self) -> Iterator[nn.Module]:
        """Yield the model before training: the adapter off, or the base loaded beside it, once."""
        if self.attached is not None:
            with self.attached.disabled():
                yield self.model
        elif self.source.trained is not None:
            if self._base is None:
                from ..models.load import load_model

                self._base = load_model(self.source.base)
            yield self._base
        else:
            yield self.model


def locate(name: str) -> Source:
    """Find what a run, an adapter or a model's name stands for; raises RunFolderError, SettingsError."""
    folder = Path(name).expanduser()
    run = RunFolder(folder)
    if run.run_yaml.is_file():
        return _source_of_run(run)
    if (folder / ADAPTER_CONFIG).is_file():
        parent = RunFolder(folder.resolve().parent)
        if parent.run_yaml.is_file() and parent.adapter == folder.resolve():
            return _source_of_run(parent)
        return Source(parse_settings(ModelSettings, {"name": _base_of_adapter(folder)}), adapter=folder)
    return Source(parse_settings(ModelSettings, {"name": name}))


def _source_of_run(run: RunFolder) -> Source:
    raw = read_yaml(run.run_yaml)
    base = parse_settings(ModelSettings, {**_block(raw, "model", "name"), "adapter": None}, "model")
    template: Kind = _block(raw, "data", "sources").get("template", "auto")
    if (run.adapter / ADAPTER_CONFIG).is_file():
        return Source(base, adapter=run.adapter, template=template)
    if (run.model / "config.json").is_file():
        trained = base.model_copy(update={"name": str(run.model), "revision": None})
        return Source(base, trained=trained, template=template)
    raise RunFolderError(
        Problem(
            "this run has no result yet",
            str(run.root),
            f"{run.adapter.name}/ or {run.model.name}/, written when training is done",
            f"weitiao train --resume {run.root}",
        )
    )


def _block(raw: dict[str, Any], key: str, short_form: str) -> dict[str, Any]:
    """Return a block of a run file, whose short form gives one field only."""
    block = raw.get(key, {})
    return dict(block) if isinstance(block, dict) else {short_form: block}


def _base_of_adapter(folder: Path) -> str:
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    name = config.get("base_model_name_or_path")
    if not name:
        raise RunFolderError(
            Problem(
                "the adapter does not say which model it was trained on",
                str(folder / ADAPTER_CONFIG),
                "base_model_name_or_path",
                f"write the base's name into {ADAPTER_CONFIG}",
            )
        )
    return str(name)


def open_model(name: str) -> Opened:
    """Load what `locate` finds, ready to answer; raises ModelError where it cannot be loaded."""
    return open_source(locate(name))


def open_source(source: Source) -> Opened:
    """Load weights, tokenizer, template and adapter; raises ModelError where they cannot be loaded."""
    from ..data.template import choose_template
    from ..models.load import load_model, load_tokenizer

    tokenizer = load_tokenizer(source.base)
    model = load_model(source.trained or source.base)
    template = choose_template(tokenizer, source.template, model.generation_config)
    if source.adapter is None:
        return Opened(source, model.eval(), tokenizer, template)
    from ..methods._peft import load_adapter

    attached = load_adapter(model, source.adapter)
    return Opened(source, attached.model.eval(), tokenizer, template, attached)
