"""The same question with different answers, which a model can only learn as a mixture."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._base import SHOWN_PLACES, Check, Finding, GateContext, GateOutcome, Hits, RowFacts
from ._kinds import Kind
from ._prints import first_of_equals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind(
    "note",
    "several rows have the same question with different answers",
    "fine for open questions; if only one answer is right, leave the others out",
)


class ConflictingAnswers(Check):
    """Finds rows whose question has a different answer in an earlier row."""

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self.numbers, self.asked, self.said = array("q"), array("Q"), array("Q")

    def observe(self, row: RowFacts) -> None:
        """Record question and answer of a row, if equal questions should have equal answers."""
        if row.text.one_answer and row.text.asked:
            own = row.text.fingerprint
            self.numbers.append(row.number)
            self.asked.append(own.asked_under_system)
            self.said.append(own.said)

    def state(self) -> Any:  # noqa: ANN401
        """Return row numbers and hashes of questions and answers."""
        return self.numbers, self.asked, self.said

    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add the state of a later chunk."""
        for own, other in zip((self.numbers, self.asked, self.said), state, strict=True):
            own.extend(other)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return the rows whose answer differs from that of the first row with the same question."""
        import numpy as np

        first_R, rows = self._conflicts()
        if not len(rows):
            return []
        numbers = np.frombuffer(self.numbers, dtype=np.int64)
        shown = [
            f"{outcome.places[int(numbers[row])]}: {outcome.places[int(numbers[first_R[row]])]}"
            for row in rows[:SHOWN_PLACES]
        ]
        return [KIND.finding(self.name, Hits(array("q", numbers[rows].tobytes()), shown), outcome.rows)]

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return how many questions have several answers, and how many rows differ from the first answer."""
        import numpy as np

        first_R, rows = self._conflicts()
        return {"questions": len(np.unique(first_R[rows])), "rows": len(rows)}

    def _conflicts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each row the first row with the same question (R,), and the rows whose answer differs from it."""
        import numpy as np

        first_R = first_of_equals(np.frombuffer(self.asked, dtype=np.uint64))
        said_R = np.frombuffer(self.said, dtype=np.uint64)
        return first_R, np.flatnonzero(said_R != said_R[first_R])
