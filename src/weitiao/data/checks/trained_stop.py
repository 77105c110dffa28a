"""Whether every answer ends in a token that generation stops on, with weight: else the model learns never to stop."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, pairwise
from typing import Any, ClassVar

from ..conversation import Conversation
from ..example import TokenSequence
from ..forms import Labelled, Tagged, Text, Tokens
from ._base import GateOutcome, RowFacts
from ._kinds import Kind, KindsCheck


class TrainedStop(KindsCheck):
    """Looks at the end of each run of trained tokens."""

    needs_tokens: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {
        "no_stop": Kind(
            "error",
            "answers end in a token on which generation does not stop",
            "make the token that ends a turn the eos_token of the tokenizer (or the eos_token_id of the "
            "generation config), or set data.template=instruction",
        ),
        "untrained": Kind(
            "error",
            "answers are trained without the token that ends them",
            "set data.train_on=answers, and let no message weight end before its turn",
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Look at the answers of each sequence; plain text has none, and rows of token ids are trained unchanged."""
        if isinstance(row.form, Text | Labelled | Tagged | Tokens) or self.context.template is None:
            return
        stops = self.context.template.stop_ids
        for sequence in row.sequences:
            ends = _trained_ends(sequence.weights)
            if ends and ends[-1] == len(sequence.ids) - 1 and sequence.ids[-1] not in stops:
                self.hit("no_stop", row, f"it ends in the id {sequence.ids[-1]}")
            bad = next((end for end in ends if sequence.ids[end] not in stops), None)
            if bad is None:
                self.counts["answers"] += len(ends)
            elif (
                bad != len(sequence.ids) - 1
                and not row.trains_questions  # then not every run of trained tokens ends an answer
                and not self._goes_on(row, sequence, bad)
            ):
                self.hit("untrained", row, f"token {bad + 1} of {len(sequence.ids)}")

    def _goes_on(self, row: RowFacts, sequence: TokenSequence, end: int) -> bool:
        """Return whether an answer's weights are only interrupted, by reasoning that is kept as untrained context."""
        form = row.form
        return (
            isinstance(form, Conversation)
            and any("<think>" in message.content or message.extra for message in form.messages)
            and any(weight > 0 for weight in sequence.weights[end + 1 :])
        )

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return how many answers end in a trained stop token."""
        return {"answers_with_trained_stop": self.counts["answers"]}


def _trained_ends(weights: tuple[float, ...]) -> list[int]:
    """Return the index of the last token of each run of tokens with a non-zero weight."""
    count = len(weights) - weights.count(0.0)
    if count and not weights[-count:].count(0.0):
        return [len(weights) - 1]
    positions = [place for place, weight in enumerate(weights) if weight > 0]
    ends = [before for before, after in pairwise(positions) if after != before + 1]
    return [*chain(ends, positions[-1:])]
