"""Labels, right choices, preferences and scores: how they are spread, and whether they say anything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..forms import Choice, Labelled, Preference, Scored, Tagged, Unpaired
from ._base import Finding, GateOutcome, Hits, RowFacts
from ._kinds import DistinctValues, Kind, KindsCheck, both_ends, gravest_first

RARE, FREQUENT = 0.01, 0.9
LEAST_ROWS = 200
"""With fewer rows, shares of classes are not meaningful."""
LONGER = 0.75
SHOWN = 50
LABELS, POSITIONS = "labels", "positions"


@dataclass(frozen=True)
class _Class:
    """A label or a position of the right choice, and how many rows have it."""

    key: int
    """The hash of its full text."""
    name: str
    """The text it is shown as; no two classes of a table share it."""
    count: int


class Balance(KindsCheck):
    """Counts labels and positions of right choices, and compares the answers of each preference."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "equal_pair": Kind(
            "error",
            "the chosen and the rejected answer are the same",
            "leave these pairs out: they express no preference",
        ),
        "ties": Kind(
            "warning",
            "all answers of a row have the same score",
            "leave these rows out: they express no preference",
        ),
        "rare": Kind(
            "warning",
            "less than 1 % of the rows have this class: {detail}",
            "add rows of this class, or raise the weight of a source that has it",
        ),
        "frequent": Kind(
            "warning",
            "more than 90 % of the rows have one class, so a model that always answers it seems to be "
            "right: {detail}",
            "add rows of the other classes, or lower the weight of a source that has this one",
        ),
        "position": Kind(
            "warning",
            "the right choice is nearly always at the same position: {detail}",
            "shuffle the choices",
        ),
        "longer": Kind(
            "note",
            "in most pairs the chosen answer is longer than the rejected one, so the model learns to write "
            "long answers",
            "an objective that corrects for length, or pairs of similar length",
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Count a row's label, choice, preference or scores."""
        match row.form:
            case Labelled(labels=labels):
                self._labels(row, labels)
            case Tagged(tags=tags):
                self._labels(row, sorted({tag.partition("-")[2] or tag for tag in tags}))
            case Unpaired(label=label):
                self._labels(row, [str(label).lower()])
            case Choice(correct=correct):
                self.value(POSITIONS, str(correct + 1))
                self.hits.setdefault(f"_{POSITIONS}", Hits()).numbers.append(row.number)
            case Preference():
                self._pair(row, row.form)
            case Scored(scores=scores):
                self.counts["scored"] += 1
                if len(scores) > 1 and len(set(scores)) == 1:
                    self.hit("ties", row, f"{scores[0]:g}")

    def _labels(self, row: RowFacts, labels: Any) -> None:  # noqa: ANN401  (any sequence of names)
        self.counts["labelled"] += 1
        self.counts["tagged"] += isinstance(row.form, Tagged)
        # Count each label once per row.
        for label in dict.fromkeys(labels):
            self.value(LABELS, label, both_ends(label))
            self.hits.setdefault(f"_{LABELS}", Hits()).numbers.append(row.number)

    def _pair(self, row: RowFacts, form: Preference) -> None:
        self.counts["pairs"] += 1
        chosen, rejected = ([message.content for message in turns] for turns in (form.chosen, form.rejected))
        if chosen == rejected and [m.extra for m in form.chosen] == [m.extra for m in form.rejected]:
            self.hit("equal_pair", row)
        longer = sum(map(len, chosen)) - sum(map(len, rejected))
        self.counts["longer"] += longer > 0
        self.counts["shorter"] += longer < 0

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return what was found."""
        found = self.found(("equal_pair", "ties"), outcome.rows)
        of = self.counts["labelled"]
        classes = self._classes(LABELS)
        rare = [one for one in classes if one.count < RARE * of]
        # With many classes each one is rare; among tags, every tag but "outside" is.
        if of >= LEAST_ROWS and not self.counts["tagged"] and len(classes) <= 0.5 / RARE:
            found += [self._of_class("rare", one, LABELS, outcome) for one in rare]
            found += [
                self._of_class("frequent", one, LABELS, outcome)
                for one in classes
                if one.count > FREQUENT * of
            ]
        positions = self._classes(POSITIONS)
        choices = sum(one.count for one in positions)
        if choices >= LEAST_ROWS:
            found += [
                self._of_class("position", one, POSITIONS, outcome)
                for one in positions
                if one.count > FREQUENT * choices
            ]
        if self.counts["pairs"] >= LEAST_ROWS and self.counts["longer"] > LONGER * self.counts["pairs"]:
            found.append(self._longer())
        return gravest_first(found)

    def _longer(self) -> Finding:
        kind = self.kinds["longer"]
        count, of = self.counts["longer"], self.counts["pairs"]
        return Finding(self.name, kind.severity, kind.what, count, count / of, fix=kind.fix)

    def _of_class(self, kind: str, one: _Class, table: str, outcome: GateOutcome) -> Finding:
        """Return the finding for the rows of one class."""
        import numpy as np

        values = self.values[table]
        rows = np.frombuffer(self.hits[f"_{table}"].numbers, dtype=np.int64)
        own = rows[np.frombuffer(values.hashes, dtype=np.uint64) == np.uint64(one.key)]
        hits = Hits()
        hits.numbers.extend(own.tolist())
        hits.details = [outcome.places[int(row)] for row in own[:5]]
        of = self.counts["labelled"] if table == LABELS else len(values.hashes)
        return self.kinds[kind].finding(self.name, hits, of, one.name)

    def _classes(self, table: str) -> list[_Class]:
        """Return the classes of a table, the most frequent first; those that are shown alike get a number."""
        counted = self.values.get(table, DistinctValues()).counted()
        alike: Counter[str] = Counter()
        classes = []
        for key, shown, count in counted:
            alike[shown] += 1
            again = f" ({alike[shown]})" if alike[shown] > 1 else ""
            classes.append(_Class(key, f"{shown}{again}" if shown else f"#{key:x}", count))
        return classes

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return rows by label and their entropy in bits, right choices by position, and which answers of pairs are
        longer."""
        labels, positions = (
            {one.name: one.count for one in self._classes(table)} for table in (LABELS, POSITIONS)
        )
        return {
            "rows_by_label": dict(list(labels.items())[:SHOWN]),
            "labels": len(labels),
            "label_entropy_bits": _entropy_bits(labels),
            "right_choices_by_position": positions,
            "pairs": self.counts["pairs"],
            "chosen_longer": self.counts["longer"],
            "chosen_shorter": self.counts["shorter"],
        }


def _entropy_bits(counts: Mapping[str, int]) -> float:
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values()) + 0.0
