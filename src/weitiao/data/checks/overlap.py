"""Held-out rows that are trained on as well: exactly, normalised, nearly, or with the same question."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._base import SHOWN_PLACES, Finding, GateOutcome, Hits, RowFacts
from ._boilerplate import near_groups
from ._kinds import Kind, gravest_first
from ._prints import PrintsCheck, first_of_equals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FROM_MEMORY = (
    "leave these rows out on one side: their loss measures what was memorised, not what was learnt to do"
)
KINDS = {
    "exact": Kind("warning", "held-out rows are also in the training rows", FROM_MEMORY),
    "normalised": Kind(
        "warning",
        "held-out rows differ from training rows only in case, spaces, punctuation or full-width characters",
        FROM_MEMORY,
    ),
    "near": Kind(
        "warning",
        "held-out rows differ from training rows in a few words only",
        "leave near duplicates out of the data, or hold out a separate file with data.held_out_path",
    ),
    "question": Kind(
        "note",
        "held-out questions are also in the training rows, with another answer",
        "fine if many rows share one instruction; otherwise set data.held_out_path to a file with new "
        "questions",
    ),
}


class Overlap(PrintsCheck):
    """Finds held-out rows that are also among the training rows."""

    def observe(self, row: RowFacts) -> None:
        """Add a row's fingerprint, unless the row is dropped."""
        if not row.dropped:
            super().observe(row)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return the held-out rows found, each under the most severe kind that applies; shares are of held-out rows."""
        held_out = int(outcome.held_out.sum())
        found = []
        for kind, partner_R in self._partners(outcome).items():
            rows = (partner_R >= 0).nonzero()[0]
            if len(rows):
                found.append(KINDS[kind].finding(self.name, self._hits(rows, partner_R, outcome), held_out))
        return gravest_first(found)

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of held-out rows by kind of overlap."""
        counts = {kind: int((rows >= 0).sum()) for kind, rows in self._partners(outcome).items()}
        return {"held_out": int(outcome.held_out.sum()), **counts} if counts else {}

    def _partners(self, outcome: GateOutcome) -> dict[str, NDArray[np.int64]]:
        """Return for each kind the matching training row of each held-out row (R,), -1 for rows without one."""
        import numpy as np

        numbers = self.prints.array("numbers")
        held_R = outcome.held_out[numbers] if len(numbers) else np.zeros(0, dtype=bool)
        if not held_R.any() or held_R.all():
            return {}
        asks_R = self.prints.array("asked") != _nothing_asked()
        named = np.zeros(len(held_R), dtype=bool)
        partners = {}
        groups = {
            "exact": first_of_equals(self.prints.array("exact")),
            "normalised": first_of_equals(self.prints.array("normal")),
            "near": near_groups(self.prints, outcome),
            "question": first_of_equals(self.prints.array("asked")),
        }
        for kind, group_R in groups.items():
            partner_R = _trained_partner(group_R, held_R)
            own = (partner_R >= 0) & ~named & (asks_R if kind == "question" else True)
            named |= own
            partners[kind] = np.where(own, partner_R, -1)
        return partners

    def _hits(self, rows: NDArray[np.int64], partner_R: NDArray[np.int64], outcome: GateOutcome) -> Hits:
        numbers = self.prints.array("numbers")
        shown = [
            f"{outcome.places[int(numbers[row])]}: {outcome.places[int(numbers[partner_R[row]])]}"
            for row in rows[:SHOWN_PLACES]
        ]
        return Hits(array("q", numbers[rows].tobytes()), shown)


def _trained_partner(group_R: NDArray[np.int64], held_R: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each held-out row the first training row of its group (R,), -1 if there is none."""
    import numpy as np

    first_trained = np.full(len(group_R), -1)
    trained = np.flatnonzero(~held_R)[::-1]
    first_trained[group_R[trained]] = trained
    return np.where(held_R, first_trained[group_R], -1)


def _nothing_asked() -> int:
    from ._sketch import hash_of

    return hash_of(b"")
