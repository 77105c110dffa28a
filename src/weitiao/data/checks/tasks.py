"""Rows and tokens by task, where the data has several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._base import Outcome, RowFacts
from ._kinds import KindsCheck, excerpt, most_first


class Tasks(KindsCheck):
    """Counts; a table, no findings."""

    def observe(self, row: RowFacts) -> None:
        """Count a row that names its task."""
        if row.form.task:
            task = excerpt(row.form.task)
            self.counts[f"rows {task}"] += 1
            self.counts[f"tokens {task}"] += sum(len(example.ids) for example in row.examples)

    def facts(self, outcome: Outcome) -> Mapping[str, Any]:
        """Return rows and tokens by task."""
        by_unit: dict[str, dict[str, int]] = {"rows": {}, "tokens": {}}
        for name, count in self.counts.items():
            unit, _, task = name.partition(" ")
            by_unit[unit][task] = count
        return {unit: most_first(counts) for unit, counts in by_unit.items()} if self.counts else {}
