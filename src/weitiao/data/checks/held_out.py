"""How many rows are held out: more than are trained on is seldom meant."""

from __future__ import annotations

from typing import Any

from ._base import Check, Finding, GateContext, GateOutcome, RowFacts


class HeldOutShare(Check):
    """Compares the number of held-out rows with the number of training rows."""

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self._kept = 0

    def observe(self, row: RowFacts) -> None:
        """Count rows that are used."""
        self._kept += not row.dropped

    def state(self) -> Any:  # noqa: ANN401
        """Return the number of rows."""
        return self._kept

    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add the state of a later chunk."""
        self._kept += state

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Warn if more rows are held out than trained on, unless the held-out set is a file of its own."""
        held_out = int(outcome.held_out.sum())
        if self.context.settings.held_out_path is not None or 2 * held_out <= self._kept:
            return []
        return [
            Finding(
                self.name,
                "warning",
                f"more rows are held out than trained on: {self._kept - held_out} of {self._kept} are trained on",
                count=held_out,
                share=held_out / self._kept,
                fix="data.held_out=auto",
            )
        ]
