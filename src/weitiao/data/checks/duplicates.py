"""Rows that stand in the data more than once: exactly, normalised, or nearly."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._base import SHOWN_PLACES, Finding, GateOutcome, Hits
from ._boilerplate import near_groups
from ._kinds import Kind, gravest_first
from ._prints import PrintsCheck, first_of_equals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KINDS = {
    "exact": Kind(
        "warning",
        "rows are equal to an earlier row",
        "leave out the rows listed: a copy is trained on more often, nothing else; to repeat rows on "
        "purpose, set the weight of their source",
        in_summary=True,
    ),
    "normalised": Kind(
        "warning",
        "rows differ from an earlier row only in case, spaces, punctuation or full-width characters",
        "leave out the rows listed",
    ),
    "near": Kind(
        "note",
        "rows differ from an earlier row in a few words only",
        "look at some of them, and leave out those that say the same",
    ),
}


class Duplicates(PrintsCheck):
    """Finds rows that repeat an earlier row."""

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return the copies, each under the first kind that applies: exact, normalised, near."""
        found = []
        for kind, first_R in self._copies(outcome).items():
            copies = (first_R >= 0).nonzero()[0]
            if len(copies):
                hits = self._hits(copies, first_R, outcome)
                found.append(KINDS[kind].finding(self.name, hits, outcome.rows))
        return gravest_first(found)

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of copies and of groups by kind."""
        import numpy as np

        return {
            kind: {
                "copies": int((first_R >= 0).sum()),
                "groups": len(np.unique(first_R[first_R >= 0])),
            }
            for kind, first_R in self._copies(outcome).items()
        }

    def _copies(self, outcome: GateOutcome) -> dict[str, NDArray[np.int64]]:
        """Return for each kind the first row that each row copies (R,), -1 if it copies none in this way."""
        import numpy as np

        groups = {
            "exact": first_of_equals(self.prints.array("exact")),
            "normalised": first_of_equals(self.prints.array("normal")),
            "near": near_groups(self.prints, outcome),
        }
        named = np.zeros(len(self.prints.numbers), dtype=bool)
        copies = {}
        for kind, first_R in groups.items():
            own = (first_R != np.arange(len(first_R))) & ~named
            named |= own
            copies[kind] = np.where(own, first_R, -1)
        return copies

    def _hits(self, copies: NDArray[np.int64], first_R: NDArray[np.int64], outcome: GateOutcome) -> Hits:
        numbers = self.prints.array("numbers")
        shown = [
            f"{outcome.places[int(numbers[row])]}: {outcome.places[int(numbers[first_R[row]])]}"
            for row in copies[:SHOWN_PLACES]
        ]
        return Hits(array("q", numbers[copies].tobytes()), shown)
