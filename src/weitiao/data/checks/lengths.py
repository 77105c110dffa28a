"""How long rows are in tokens, what is trained of them, and what was left out or cut."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ..templates.render import NO_TOKEN
from ..templates.render import NOTHING_TRAINED as NOTHING_TRAINED_REASON
from ._base import Check, Finding, GateContext, GateOutcome, Hits, RowFacts
from ._kinds import Kind, gravest_first

BINS = 20
QUANTILES = {"p5": 0.05, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
LEFT_OUT = Kind(
    "warning",
    "rows are left out: {detail}",
    "raise data.max_length, set data.overlong=cut, or shorten the rows",
    in_summary=True,
)
STILL_LEFT_OUT = replace(LEFT_OUT, fix="raise data.max_length, or shorten the rows")
"""Like `LEFT_OUT`, if data.overlong=cut is already set."""
WITHOUT_LOSS = replace(
    LEFT_OUT,
    fix="give an answer a weight above 0, or leave these rows out",
)
"""Like `LEFT_OUT`, if length is not the reason."""
CUT = Kind(
    "warning",
    "rows lose their earliest turns or the end of an answer to fit data.max_length",
    "raise data.max_length if memory allows it, or shorten the rows",
    in_summary=True,
)
NOTHING_TRAINED = Kind(
    "error",
    "rows have no trained token",
    "give an assistant turn a weight above 0, or set data.train_on=answers",
)
QUESTIONS = Kind(
    "note",
    "rows also train questions or system prompts, because these turns have a weight above 0",
    "if only answers should be trained, give the other turns weight 0 or none",
)


class Lengths(Check):
    """Measures token sequences, and counts rows that were left out or cut."""

    needs_tokens: ClassVar[bool] = True

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        self.tokens, self.trained = array("i"), array("i")
        self.left_out = array("i")
        """Tokens of each row that was left out."""
        self.dropped: dict[str, Hits] = {}
        self.cut, self.untrained, self.questions = Hits(), Hits(), Hits()

    def observe(self, row: RowFacts) -> None:
        """Measure a row's sequences."""
        for sequence in row.sequences:
            weights = sequence.weights
            # The first token has no context to be predicted from, so it is never trained.
            trained = len(weights) - weights.count(0.0) - (bool(weights) and weights[0] > 0)
            self.tokens.append(len(weights))
            self.trained.append(trained)
            if not trained and (not self.untrained.numbers or self.untrained.numbers[-1] != row.number):
                self.untrained.add(row)
        if row.tokens:
            self.left_out.append(row.tokens)
        if row.dropped:
            self.dropped.setdefault(row.dropped, Hits()).add(row)
        if row.sequences and row.trains_questions:
            self.questions.add(row)
        if row.cut_tokens:
            self.cut.add(row, f"{row.cut_tokens} tokens")

    def state(self) -> Any:  # noqa: ANN401
        """Return the lengths and the rows left out or cut."""
        return (
            self.tokens,
            self.trained,
            self.left_out,
            self.dropped,
            self.cut,
            self.untrained,
            self.questions,
        )

    def merge(self, state: Any) -> None:  # noqa: ANN401
        """Add the state of a later chunk."""
        tokens, trained, left_out, dropped, cut, untrained, questions = state
        self.tokens.extend(tokens)
        self.trained.extend(trained)
        self.left_out.extend(left_out)
        for reason, hits in dropped.items():
            self.dropped.setdefault(reason, Hits()).extend(hits)
        self.cut.extend(cut)
        self.untrained.extend(untrained)
        self.questions.extend(questions)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return the rows left out, by reason, the rows cut, and rows that train nothing or train questions."""
        found = [
            self._left_out(reason).finding(self.name, hits, outcome.rows, reason)
            for reason, hits in self.dropped.items()
        ]
        if len(self.cut):
            found.append(CUT.finding(self.name, self.cut, outcome.rows))
        if len(self.untrained):
            found.append(NOTHING_TRAINED.finding(self.name, self.untrained, outcome.rows))
        if len(self.questions):
            found.append(QUESTIONS.finding(self.name, self.questions, outcome.rows))
        return gravest_first(found)

    def _left_out(self, reason: str) -> Kind:
        """Return the kind for a reason, with a suitable fix."""
        if reason in (NOTHING_TRAINED_REASON, NO_TOKEN):
            return WITHOUT_LOSS
        return STILL_LEFT_OUT if self.context.settings.overlong == "cut" else LEFT_OUT

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the histogram of lengths in tokens, quantiles, and the share of trained tokens overall and by
        sequence."""
        import numpy as np

        tokens, trained, left_out = (
            np.frombuffer(values, dtype=np.int32) for values in (self.tokens, self.trained, self.left_out)
        )
        limit = self.context.settings.max_length
        longest = max(limit, int(tokens.max(initial=0)), int(left_out.max(initial=0)))
        left_out_counts, edges = np.histogram(left_out, bins=BINS, range=(0, longest))
        histogram = {
            "histogram_edges": [float(edge) for edge in edges],
            "histogram_left_out": left_out_counts.tolist(),
        }
        if not len(tokens):
            return {
                "max_length": limit,
                "examples": 0,
                "dropped": self._dropped_counts(),
                "cut": len(self.cut),
                **histogram,
            }
        shares = trained / np.maximum(tokens, 1)
        return {
            "max_length": limit,
            "examples": len(tokens),
            "tokens": int(tokens.sum(dtype=np.int64)),
            "trained_tokens": int(trained.sum(dtype=np.int64)),
            "trained_share": float(trained.sum(dtype=np.int64) / max(1, tokens.sum(dtype=np.int64))),
            "trained_share_by_example": _quantiles(shares),
            "length_quantiles": _quantiles(tokens),
            **histogram,
            "histogram_counts": np.histogram(tokens, bins=BINS, range=(0, longest))[0].tolist(),
            "dropped": self._dropped_counts(),
            "cut": len(self.cut),
        }

    def _dropped_counts(self) -> dict[str, int]:
        return {reason: len(hits) for reason, hits in self.dropped.items()}


def _quantiles(values: Any) -> dict[str, float]:  # noqa: ANN401  (any array of numbers)
    import numpy as np

    ordered = np.sort(values)
    return {name: float(ordered[round(q * (len(ordered) - 1))]) for name, q in QUANTILES.items()}
