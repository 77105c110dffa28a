"""Answers that are written in capitals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ._base import GateOutcome, RowFacts
from ._kinds import Kind, KindsCheck


class ToyShouting(KindsCheck):
    """Finds answers without a small letter."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "capitals": Kind("note", "answers are written in capitals", fix="write them in small letters"),
    }

    def observe(self, row: RowFacts) -> None:
        """Look at the answers of a row."""
        if any(answer.isupper() for answer in row.text.wanted):
            self.hit("capitals", row)
            self.counts["toy_capitals"] += 1

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of such rows."""
        return dict(self.counts)
