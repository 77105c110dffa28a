"""The base class of checks: a check observes every row once, and reports its findings at the end.

Each chunk of rows gets a new instance (several processes work on chunks). It observes the rows of its chunk; its state
is then merged into the instance for the whole data, in the order of the chunks. So the state is small and simple:
counts, first places, arrays of numbers; never the rows themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..conversation import Conversation
from ..example import TokenSequence
from ..forms import AnyForm
from ._row_text import RowText, row_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ..settings import DataSettings
    from ..templates.template import Template

Severity = Literal["error", "warning", "note"]
SHOWN_PLACES = 5


@dataclass(frozen=True)
class RowFacts:
    """One row, as the checks see it."""

    number: int
    """The row's number in the whole data, from 0; unusable rows are counted too."""
    form: AnyForm
    sequences: tuple[TokenSequence, ...]
    """The token sequences to train on; empty if the row was dropped, or without a tokenizer."""
    dropped: str = ""
    """Why it was left out, with the same text for every row with this reason; "" if it is kept."""
    cut_tokens: int = 0
    """Tokens removed to fit `max_length`."""
    tokens: int = 0
    """Tokens of the longest sequence that was left out, 0 if none was."""

    known_text: RowText | None = None
    """The cached value of `text` from an equal row; None if there is none."""

    @cached_property
    def text(self) -> RowText:
        """The row's texts, extracted once for all checks."""
        return self.known_text or row_text(self.form)

    @property
    def trains_questions(self) -> bool:
        """Whether a turn that is not an answer has a weight above 0."""
        return isinstance(self.form, Conversation) and any(
            message.weight and message.role != "assistant" for message in self.form.messages
        )


@dataclass(frozen=True)
class GateContext:
    """What a check knows before the first row."""

    settings: DataSettings
    template: Template | None = None
    """None if the gate runs without a model."""
    tokenizer: PreTrainedTokenizerBase | None = None


@dataclass(frozen=True)
class GateOutcome:
    """What is known after all rows were observed."""

    rows: int
    """Rows read, including unusable and dropped ones."""
    places: Sequence[str]
    """Where each row comes from, by its number; created on access."""
    held_out: NDArray[np.bool_]
    """By row number: whether the row is in the held-out set."""
    texts: Callable[[int], RowText] | None = None
    """Reads a usable row's texts again, by its number; None if rows are not kept."""
    _results: dict[bytes, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: bytes, compute: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the result of `compute`, cached by `key` for all checks."""
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know about the data."""

    check: str
    """The check's name."""
    severity: Severity
    what: str
    """The finding in one sentence, without numbers that differ from row to row; `core.locale` has its Chinese."""
    count: int = 0
    """Number of rows."""
    share: float = 0.0
    """Share of the rows (or of what `what` names), 0 to 1."""
    places: tuple[str, ...] = ()
    """The first few places, as file:line, each possibly followed by a detail."""
    rows: tuple[int, ...] = ()
    """The rows' numbers, at most 1,000 of them."""
    fix: str = ""
    """What to do about it, with settings as they are typed."""
    in_summary: bool = False
    """Whether the data summary already counts these rows in a line of its own, so that a run reports them once."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class Check(ABC):
    """Looks for one kind of problem or fact; each file in this folder derives one class."""

    needs_tokens: ClassVar[bool] = False
    """Whether the check needs a tokenizer."""

    def __init__(self, context: GateContext) -> None:
        self.context = context

    @property
    def name(self) -> str:
        """The check's name: its file's name."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def observe(self, row: RowFacts) -> None:
        """Look at one row."""

    @abstractmethod
    def state(self) -> Any:  # noqa: ANN401  (what `merge` takes: plain values and arrays)
        """Return what was observed, as values that can be sent to another process."""

    @abstractmethod
    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add the state of a later chunk's instance."""

    @abstractmethod
    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return the findings, the most severe first; none if there is no problem."""

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return numbers for tables and charts (histograms, counts by name), by descriptive name."""
        return {}


@dataclass
class Hits:
    """The rows with one problem: their numbers, and the places of the first few."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    details: list[str] = field(default_factory=list)
    """Places of the first few rows, each possibly with a detail."""

    def add(self, row: RowFacts, detail: str = "") -> None:
        """Count a row."""
        self.numbers.append(row.number)
        if len(self.details) < SHOWN_PLACES:
            self.details.append(f"{row.form.place}: {detail}" if detail else row.form.place)

    def extend(self, other: Hits) -> None:
        """Add the state of a later chunk."""
        self.numbers.extend(other.numbers)
        self.details += other.details[: SHOWN_PLACES - len(self.details)]

    def __len__(self) -> int:
        return len(self.numbers)
