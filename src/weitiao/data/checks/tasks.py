"""Rows and tokens by task, where the data has several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ._base import Finding, GateOutcome, Hits, RowFacts
from ._kinds import Kind, KindsCheck, excerpt, most_first


class Tasks(KindsCheck):
    """Counts rows and tokens by task, and checks that each task with a template of its own has rows."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "no_rows": Kind(
            "error",
            "data.task_templates has a template for a task that no row has: {detail}",
            "name a task of the data (column task, or data.sources.task), or remove this template",
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Count a row that names its task."""
        if row.form.task:
            task = excerpt(row.form.task)
            self.counts[f"rows {task}"] += 1
            self.counts[f"tokens {task}"] += sum(len(sequence.ids) for sequence in row.sequences)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return the tasks that have a template but no rows."""
        met = [name.partition(" ")[2] for name in self.counts if name.startswith("rows ")]
        missed = [task for task in self.context.settings.task_templates if excerpt(task) not in met]
        if not missed or not outcome.rows:
            return []
        has = f"the data has {', '.join(sorted(met))}" if met else "the data has no tasks"
        detail = f"{', '.join(missed)}; {has}"
        return [self.kinds["no_rows"].finding(self.name, Hits(), outcome.rows, detail)]

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of rows and tokens by task."""
        by_unit: dict[str, dict[str, int]] = {"rows": {}, "tokens": {}}
        for name, count in self.counts.items():
            unit, _, task = name.partition(" ")
            by_unit[unit][task] = count
        return {unit: most_first(counts) for unit, counts in by_unit.items()} if self.counts else {}
