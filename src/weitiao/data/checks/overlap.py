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

OTHER_FILE = (
    "leave these rows out of one side: what was trained on measures memory, not ability",
    "从一侧删去这些行：训练过的内容量出的是记忆，不是能力",
)
KINDS = {
    "exact": Kind("warning", "held-out rows are trained on as well", "留出的数据也在训练数据里", *OTHER_FILE),
    "normalised": Kind(
        "warning",
        "held-out rows differ from trained ones only in case, blanks, punctuation or width of characters",
        "留出的数据与训练数据只差大小写、空白、标点或全半角",
        *OTHER_FILE,
    ),
    "near": Kind(
        "warning",
        "held-out rows differ from trained ones in a few words only",
        "留出的数据与训练数据只差几个词",
        "leave near duplicates out of the data, or hold out a file of its own with data.held_out_path",
        "从数据中删去近似重复的行，或用 data.held_out_path 另给一个文件",
    ),
    "question": Kind(
        "note",
        "held-out questions are trained on with another answer",
        "留出的问题也在训练数据里，只是回答不同",
        "fine where many rows share one instruction; otherwise data.held_out_path with new questions",
        "若许多行共用一个指令则无妨；否则用 data.held_out_path 给出新问题",
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
