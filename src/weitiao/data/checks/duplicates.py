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
        "有数据与前面的某条完全相同",
        "leave out the rows listed: a copy is only learnt more often; to repeat on purpose, set the source's weight",
        "删去列出的各行：重复只会让它被多学几遍；若有意重复，请设该来源的 weight",
        in_summary=True,
    ),
    "normalised": Kind(
        "warning",
        "rows differ from an earlier row only in case, blanks, punctuation or width of characters",
        "有数据与前面的某条只差大小写、空白、标点或全半角",
        "leave out the rows listed",
        "删去列出的各行",
    ),
    "near": Kind(
        "note",
        "rows differ from an earlier row in a few words only",
        "有数据与前面的某条只差几个词",
        "look at some of them; leave them out where they say the same",
        "看几条；意思相同的就删去",
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
