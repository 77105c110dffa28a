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
            "thoughts are opened and never closed, or closed without being opened",
            "有思考块没有结束，或没有开始就结束",
            "write <think> and </think> around each thought",
            "在每段思考两端写上 <think> 与 </think>",
        ),
        "nothing_said": Kind(
            "warning",
            "answers end with their thought and say nothing after it",
            "有回答只有思考，之后什么也没说",
            "write the answer behind </think>",
            "在 </think> 之后写上回答",
        ),
        "empty": Kind(
            "note",
            "thoughts are empty",
            "有思考块是空的",
            "right for answers without thinking; otherwise write the thought, or data.reasoning=drop",
            "若正要不思考就回答则无妨；否则写上思考，或设 data.reasoning=drop",
        ),
        "some": Kind(
            "note",
            "some answers have thoughts and others have none",
            "一部分回答有思考，另一部分没有",
            "right for a model that thinks on demand; otherwise data.reasoning=drop",
            "若模型按需思考则无妨；否则设 data.reasoning=drop",
        ),
        "added": Kind(
            "note",
            "this model's template writes an empty thought before answers that have none, and it is trained with them",
            "这个模型的模板会在没有思考的回答前写上空的思考，它会一起参与训练",
            "right for answers without thinking; data.reasoning=mask does not train it",
            "若正要不思考就回答则无妨；设 data.reasoning=mask 就不训练它",
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
