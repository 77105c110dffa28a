"""What a check is: it sees every row once, wherever that row is worked on, and says at the end what it found.

A check is made anew for each chunk of rows (chunks are worked on in several processes), observes its rows, and is
merged into the one for the whole data, in the order of the chunks. So its state is small and plain: counts, first
places, arrays of numbers; never the rows themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
    """One row as the gate sees it."""

    number: int
    """The row's number in the whole data, from 0, rows that cannot be used counted too."""
    form: AnyForm
    sequences: tuple[TokenSequence, ...]
    """What it gave to train on, as it will be trained; empty where it was dropped, or no tokenizer is there."""
    dropped: str = ""
    """Why it was left out, the same words for every row with this reason; nothing where it is kept."""
    cut_tokens: int = 0
    """How many tokens it lost to `max_length`."""
    tokens: int = 0
    """How many tokens the longest example had that was left out, 0 where none was."""

    known_text: RowText | None = None
    """What `text` is, where an equal row was taken apart before."""

    @cached_property
    def text(self) -> RowText:
        """What stands in the row, taken apart once for all checks."""
        return self.known_text or row_text(self.form)


@dataclass(frozen=True)
class GateContext:
    """What a check may ask about the whole."""

    settings: DataSettings
    template: Template | None = None
    """None where the gate is asked without a model."""
    tokenizer: PreTrainedTokenizerBase | None = None


@dataclass(frozen=True)
class GateOutcome:
    """What is known when all rows were seen."""

    rows: int
    """Rows read, those that cannot be used and dropped ones included."""
    places: Sequence[str]
    """Where each row comes from, by its number; made when asked for."""
    held_out: NDArray[np.bool_]
    """By row number: whether it is kept away to measure with."""
    texts: Callable[[int], RowText] | None = None
    """Reads a usable row's texts again, by its number; None where rows are not kept."""
    _results: dict[bytes, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: bytes, compute: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return what `compute` returns, computed once for all checks that ask with the same key."""
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]


@dataclass(frozen=True)
class Finding:
    """One thing a person should know about the data."""

    check: str
    """The check's name."""
    severity: Severity
    what: str
    """What is so, in one sentence without numbers that differ from row to row."""
    what_zh: str
    count: int = 0
    """How many rows."""
    share: float = 0.0
    """Of the rows (or of what `what` says), 0 to 1."""
    places: tuple[str, ...] = ()
    """The first few places, as file:line, each perhaps with a detail behind it."""
    rows: tuple[int, ...] = ()
    """The rows' numbers, all of them up to 1,000."""
    fix: str = ""
    """What to do about it; a setting is written as it is typed."""
    fix_zh: str = ""
    in_summary: bool = False
    """Whether the data's summary counts these rows in a line of its own, so that a run says it once."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class Check(ABC):
    """One kind of fault or fact; each file in this folder derives one class."""

    needs_tokens: ClassVar[bool] = False
    """Whether it has nothing to say without a tokenizer."""

    def __init__(self, context: GateContext) -> None:
        self.context = context

    @property
    def name(self) -> str:
        """The check's name: its file's name."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def observe(self, row: RowFacts) -> None:
        """Look at a row."""

    @abstractmethod
    def state(self) -> Any:  # noqa: ANN401  (what `merge` takes: plain values and arrays)
        """Return what was seen, to be carried to another process."""

    @abstractmethod
    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add what a later chunk's check saw."""

    @abstractmethod
    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Say what was found, the gravest first; nothing where all is well."""

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return numbers for tables and pictures (histograms, counts by name), by a name that says what they are."""
        return {}


@dataclass
class Hits:
    """Rows with one fault: how many, their numbers, and the first places with a detail."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    details: list[str] = field(default_factory=list)
    """Of the first few."""

    def add(self, row: RowFacts, detail: str = "") -> None:
        """Count a row."""
        self.numbers.append(row.number)
        if len(self.details) < SHOWN_PLACES:
            self.details.append(f"{row.form.place}: {detail}" if detail else row.form.place)

    def extend(self, other: Hits) -> None:
        """Add a later chunk's."""
        self.numbers.extend(other.numbers)
        self.details += other.details[: SHOWN_PLACES - len(self.details)]

    def __len__(self) -> int:
        return len(self.numbers)
