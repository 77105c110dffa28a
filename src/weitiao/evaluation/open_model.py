"""Opens a run, an adapter or a plain model for answering, with its base for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..data.templates.system_prompts import with_trained_system, without_trained_system
from .locate import Source, locate

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..data.templates.template import Template
    from ..methods._base import Attached


@dataclass
class Opened:
    """A model ready to answer."""

    source: Source
    model: PreTrainedModel
    """The model that answers: the base, the trained model, or PEFT's wrapper around the base."""
    tokenizer: PreTrainedTokenizerBase
    template: Template
    attached: Attached | None = None
    """The adapter, if there is one."""
    system: str = ""
    """The system prompt shared by all training rows, if any; the template does not add it."""
    notes: list[str] = field(default_factory=list)
    """What a person should know about it, in sentences."""
    _base: PreTrainedModel | None = field(default=None, repr=False)

    @property
    def tokenizer_to_save(self) -> PreTrainedTokenizerBase:
        """The tokenizer for other tools; its chat template adds the system prompt."""
        return with_trained_system(self.template, self.system)

    @property
    def is_trained(self) -> bool:
        """Whether there is a base to compare with."""
        return self.attached is not None or self._is_whole

    @property
    def _is_whole(self) -> bool:
        """Whether the model's own weights were trained, so that the base must be loaded separately."""
        return self.source.trained is not None or (self.source.checkpoint is not None and not self.attached)

    @contextmanager
    def as_base(self) -> Iterator[nn.Module]:
        """Yield the model before training: with the adapter disabled, or the base, loaded once."""
        if self.attached is not None:
            with self.attached.disabled():
                yield self.model
        elif self._is_whole:
            if self._base is None:
                from ..models.load import load_model

                self._base = load_model(self.source.base)
            yield self._base
        else:
            yield self.model


def open_by_name(name: str, base: str | None = None, allow_other_base: bool = False) -> Opened:
    """Load what `locate` finds, ready to answer; raises ModelError if it cannot be loaded."""
    return open_located(locate(name, base, allow_other_base))


def open_located(source: Source) -> Opened:
    """Load weights, tokenizer, template and adapter; raises ModelError if they cannot be loaded, or if the adapter was
    trained on another base."""
    from ..models.load import load_model

    return opened_on(load_model(source.trained or source.base), source)


def opened_on(model: PreTrainedModel, source: Source) -> Opened:
    """Attach what was trained to a loaded model, and load tokenizer and template; raises as `open_located`."""
    from ..data.templates.template import choose_template
    from .trained import attached_of, base_notes, tokenizer_of

    tokenizer, system = without_trained_system(tokenizer_of(source))
    template = choose_template(tokenizer, source.wording, model.generation_config)
    notes = base_notes(source, model)
    attached = attached_of(source, model)
    if source.systems is not None:
        system = source.systems.common or system
        notes += filter(None, [source.systems.note])
    if attached is None or attached.saves_whole_model:
        return Opened(source, model.eval(), template.tokenizer, template, system=system, notes=notes)
    trained = attached.model.eval()
    return Opened(source, trained, template.tokenizer, template, attached, system, notes)
