"""The facts about a finished run from which the report and the card are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .answers import Answer
from .chosen import Chosen
from .verdict import Verdict


@dataclass(frozen=True)
class Scores:
    """The held-out loss and the objective's other measures, by name."""

    loss: float
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportFacts:
    """Facts about a run; paths are written as a reader would type them."""

    run: str
    """The run's folder."""
    base: str
    """The base model's name in the run file."""
    data: Sequence[str]
    """The data sources, one text each."""
    data_lines: Sequence[str]
    """The data summary, line by line."""
    method: str
    """The method's name."""
    method_title: str
    """The method's name as papers write it."""
    method_settings: Mapping[str, Any]
    trainable: int
    """Trained parameters."""
    total: int
    """All parameters, trained ones included."""
    steps: int
    """Steps made."""
    seconds: float
    """Seconds spent in steps."""
    tokens_per_second: float
    peak_memory_bytes: int
    result: str
    """Path of the adapter or complete model, relative to the run's folder."""
    is_adapter: bool
    """Whether the result is an adapter in PEFT's format rather than a complete model."""
    whole_seconds: float = 0.0
    """Seconds from the start of the command to the report."""
    result_step: int | None = None
    """The step whose weights are the result; None for the last step."""
    chosen_by_loss: bool = False
    """Whether the weights were chosen among several evaluations by the lowest held-out loss."""
    chosen: Chosen | None = None
    """What the run trained with: learning rate, schedule, length."""
    left_out: Sequence[str] = ()
    """Parts of the model that the method leaves untouched, with their share."""
    needs_weitiao: bool = False
    """Whether PEFT can load the adapter only after weitiao has registered the method."""
    before: Scores | None = None
    after: Scores | None = None
    losses: Sequence[tuple[int, float]] = ()
    """(step, training loss), in order."""
    held_out_losses: Sequence[tuple[int, float]] = ()
    """(step, held-out loss), in order."""
    verdict: Verdict | None = None
    answers: Sequence[Answer] = ()
    most_new_tokens: int = 0
    """Token limit of an answer."""
    failures: Sequence[str] = ()
    """What could not be measured or asked, and why."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package -> version, python included."""
    base_hub_id: str | None = None
    """The base's hub id, if it has one; the card's metadata names it."""
    extra_tags: Sequence[str] = ()
    """Tags of the card besides the method's."""
