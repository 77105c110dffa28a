"""What is known about a finished run: all that the report and the adapter's card are written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.said import Said
from .answers import Answer
from .chosen import Chosen
from .verdict import Verdict


@dataclass(frozen=True)
class Scores:
    """The held-out loss, and what the objective says beside it, by name."""

    loss: float
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportFacts:
    """Plain facts of a run; paths are as a reader would type them."""

    run: str
    """The run's folder."""
    base: str
    """The base model's name, as the run file has it."""
    data: Sequence[str]
    """Where the data came from, one text a source."""
    data_lines: Sequence[str]
    """The data's summary, a line each."""
    data_lines_zh: Sequence[str]
    """The same in Chinese."""
    method: str
    """The method's name."""
    method_title: str
    """The method's name as papers write it."""
    method_settings: Mapping[str, Any]
    trainable: int
    """Trained parameters."""
    total: int
    """All parameters, the trained ones included."""
    steps: int
    """Steps made."""
    seconds: float
    """Seconds in steps."""
    tokens_per_second: float
    peak_memory_bytes: int
    result: str
    """Where the adapter or the whole model lies, from the run's folder."""
    is_adapter: bool
    """Whether the result is an adapter in PEFT's format, not a whole model."""
    whole_seconds: float = 0.0
    """Seconds from the command's beginning to the report."""
    result_step: int | None = None
    """The step whose weights are the result; None where it is the last."""
    chosen_by_loss: bool = False
    """Whether these weights are those of several looks with the lowest held-out loss."""
    chosen: Chosen | None = None
    """What the run was set to: learning rate, schedule, length."""
    left_out: Sequence[Said] = ()
    """What of the model the method left as it is, with its share."""
    needs_weitiao: bool = False
    """Whether PEFT loads the adapter only where weitiao makes the method known to it."""
    before: Scores | None = None
    after: Scores | None = None
    losses: Sequence[tuple[int, float]] = ()
    """(step, training loss), in order."""
    held_out_losses: Sequence[tuple[int, float]] = ()
    """(step, held-out loss), in order."""
    verdict: Verdict | None = None
    answers: Sequence[Answer] = ()
    most_new_tokens: int = 0
    """The most tokens an answer may have."""
    failures: Sequence[str] = ()
    """What could not be measured or asked, and why."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package -> version, python included."""
    base_hub_id: str | None = None
    """The base's id on the hub, where it has one: named in the card's metadata."""
    extra_tags: Sequence[str] = ()
    """Tags for the card beside the method's."""
