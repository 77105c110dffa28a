"""The settings that a run ended up with, as facts for the terminal, the report and Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..core.units import readable_rate, significant


@dataclass(frozen=True)
class Chosen:
    """What a run trains with, after every default is resolved."""

    method: str
    """The method's name as papers write it."""
    targets: tuple[str, int] | None
    """Names and number of the modules that train; None if the method trains none of the base's modules."""
    lr: float
    """The peak learning rate."""
    scheduler: str
    warmup_steps: int
    epochs: float
    """Average number of times an example is seen."""
    steps: int
    batch_size: int
    """Examples per step."""
    examples: int
    """Examples to train on."""
    held_out: int
    """Examples held out."""

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the event that reports it."""
        return asdict(self)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Chosen:
        """Build it from an event's fields; raises KeyError or TypeError if some are missing."""
        return cls(**{**fields, "targets": _modules(fields["targets"])})

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, text) pairs, one per line."""
        return [
            ("method", self.on_modules(self.method)),
            ("learning rate", self._rate()),
            ("length", self._length()),
            ("held out", f"{self.held_out:,} example{_s(self.held_out)}" if self.held_out else "nothing"),
        ]

    def on_modules(self, method: str) -> str:
        """Return a method's name with the modules that it trains."""
        if self.targets is None:
            return method
        names, count = self.targets
        return f"{method} on {names} ({count:,} module{_s(count)})"

    def _rate(self) -> str:
        rate, steps = f"{readable_rate(self.lr)}, {self.scheduler}", self.warmup_steps
        return f"{rate}, warm-up over {steps:,} step{_s(steps)}" if steps else rate

    def _length(self) -> str:
        epochs, examples = significant(self.epochs), self.examples
        made = f"{self.steps:,} step{_s(self.steps)} of {self.batch_size:,} example{_s(self.batch_size)}"
        seen = f"{epochs} epoch{'' if epochs == '1' else 's'} of {examples:,} example{_s(examples)}"
        return f"{made}, {seen}"


def _s(count: int) -> str:
    """Return the ending of a noun that is counted."""
    return "" if count == 1 else "s"


def _modules(fields: Sequence[Any] | None) -> tuple[str, int] | None:
    """Return names and number of modules from an event; older runs wrote both as one text, with its Chinese."""
    if fields is None:
        return None
    names, count = fields
    if isinstance(count, str):
        names, _, count = str(names).rpartition(" (")
        return names, int(count.partition(" ")[0].replace(",", ""))
    return names, count
