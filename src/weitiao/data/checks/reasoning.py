"""Thoughts in answers: <think> blocks that are unclosed, empty, or only there in some rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Message
from ..formats._base import RowError
from ._base import Finding, GateContext, GateOutcome, RowFacts
from ._kinds import Kind, KindsCheck, excerpt

OPEN, CLOSE = "<think>", "</think>"
EMPTY = re.compile(r"<think>\s*</think>")


class Reasoning(KindsCheck):
    """Looks at the reasoning in answers."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "unclosed": Kind(
            "error",
            "reasoning is opened and never closed, or closed without being opened",
            "write <think> and </think> around the reasoning",
        ),
        "nothing_said": Kind(
            "warning",
            "answers end with their reasoning, with nothing after it",
            "write the answer after </think>",
        ),
        "empty": Kind(
            "note",
            "reasoning is empty",
            "fine for answers without reasoning; otherwise write the reasoning, or set data.reasoning=drop",
        ),
        "some": Kind(
            "note",
            "some answers have reasoning and others have none",
            "fine for a model that thinks on demand; otherwise data.reasoning=drop",
        ),
        "added": Kind(
            "note",
            "this model's template writes empty reasoning before answers that have none, and it is trained "
            "as a part of them",
            "fine for answers without reasoning; data.reasoning=mask does not train it",
        ),
    }

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        trained = context.template is not None and context.settings.reasoning != "mask"
        self._adds = trained and self._writes_empty_thought()

    def _writes_empty_thought(self) -> bool:
        """Return whether the template writes an empty reasoning block for an answer that has none."""
        template = self.context.template
        asked = (Message("user", "weitiao"), Message("assistant", "weitiao"))
        try:
            return template is not None and any(CLOSE in answer for answer in template.answers(asked))
        except RowError:
            return False

    def observe(self, row: RowFacts) -> None:
        """Look at each assistant turn."""
        thinks = False
        answers = [turn for turn in row.text.turns if turn.role == "assistant"]
        for turn in answers:
            thinks = thinks or bool(turn.extra.get("reasoning_content"))
            if OPEN in turn.content or CLOSE in turn.content:
                thinks = True
                self._look(row, turn.content, calls=bool(turn.extra.get("tool_calls")))
        self.counts["with_answers"] += bool(answers)
        if thinks:
            self.hit("some", row)
        elif self._adds and row.sequences and answers:
            self.hit("added", row)

    def _look(self, row: RowFacts, answer: str, *, calls: bool) -> None:
        opened, closed = answer.count(OPEN), answer.count(CLOSE)
        starts = answer.lstrip().startswith(OPEN)
        # A text about these tags may mention them; real reasoning is at the beginning of the answer.
        if (starts and opened != closed) or opened == 0:
            self.hit("unclosed", row, excerpt(answer))
        elif closed and not calls and not answer.rpartition(CLOSE)[2].strip():
            self.hit("nothing_said", row, excerpt(answer))
        if EMPTY.search(answer):
            self.counts["empty"] += 1
            self.hit("empty", row)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return what was found."""
        mixed = len(self.hits.get("some", ())) < self.counts["with_answers"]
        return self.found(
            ["unclosed", "nothing_said", "empty", *(["some"] if mixed else []), "added"], outcome.rows
        )

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of rows with reasoning, and of answers with an empty reasoning block."""
        return {"rows_with_thoughts": len(self.hits.get("some", ())), "empty_thoughts": self.counts["empty"]}
