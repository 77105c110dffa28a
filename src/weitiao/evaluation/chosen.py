"""The settings that a run ended up with, as facts for the terminal, the report and Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..core.said import Said
from ..core.units import readable_rate, significant


@dataclass(frozen=True)
class Chosen:
    """What a run trains with, after every default is resolved."""

    method: str
    """The method's name as papers write it."""
    targets: tuple[str, str] | None
    """The modules that train, in English and Chinese; None if the method trains none of the base's modules."""
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
        targets = fields["targets"]
        return cls(**{**fields, "targets": None if targets is None else (targets[0], targets[1])})

    def rows(self) -> list[tuple[Said, Said]]:
        """Return (label, text) pairs, one per line."""
        return [
            (Said("method", "方法"), self._method()),
            (Said("learning rate", "学习率"), self._rate()),
            (Said("length", "长度"), self._length()),
            (Said("held out", "留出"), _counted(self.held_out)),
        ]

    def _method(self) -> Said:
        if self.targets is None:
            return Said(self.method, self.method)
        return Said(f"{self.method} on {self.targets[0]}", f"{self.method}：{self.targets[1]}")

    def _rate(self) -> Said:
        en = zh = f"{readable_rate(self.lr)}, {self.scheduler}"
        if self.warmup_steps:
            en += f", warm-up over {_plural(self.warmup_steps, 'step')}"
            zh += f"，前 {self.warmup_steps} 步预热"
        return Said(en, zh)

    def _length(self) -> Said:
        epochs = significant(self.epochs)
        passes = "1 epoch" if epochs == "1" else f"{epochs} epochs"
        steps, rows = _plural(self.steps, "step"), _plural(self.batch_size, "example")
        return Said(
            f"{steps} of {rows}, {passes} of {_plural(self.examples, 'example')}",
            f"{self.steps:,} 步，每步 {self.batch_size:,} 条；{self.examples:,} 条样本共 {epochs} 轮",
        )


def _counted(examples: int) -> Said:
    if not examples:
        return Said("nothing", "无")
    return Said(_plural(examples, "example"), f"{examples:,} 条")


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
