"""Who speaks: roles, turns a conversation, system texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Conversation
from ._base import Finding, GateOutcome, RowFacts
from ._kinds import DistinctValues, Kind, KindsCheck, most_first

MOST_TURNS = 50
SHOWN_SYSTEMS = 10


class Roles(KindsCheck):
    """Counts roles, turns and system texts."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        "no_question": Kind(
            "warning",
            "conversations have no question",
            "有对话没有提问",
            "put the question into a user turn, or use plain text (data.sources.format=text)",
            "把问题写成 user 轮，或用纯文本格式",
        ),
        "empty_system": Kind(
            "note",
            "system texts are empty; they are kept, so that a template writes no default of its own there",
            "有系统提示是空的；它们会保留，模板就不会写上自带的默认提示",
            "right where no system text is meant; leave the turn out for the template's own default",
            "若正要没有系统提示则无妨；想用模板自带的默认提示请删去这一轮",
        ),
        "unplaced_system": Kind(
            "note",
            "this model's template has no place for a system text, so it stands before the first question",
            "这个模型的模板没有系统提示的位置，因此它写在第一个问题之前",
            "nothing to do: serving does the same",
            "无需处理：服务时也是如此",
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Count the roles and turns of a conversation."""
        if not isinstance(row.form, Conversation):
            return
        messages = row.form.messages
        self.counts["conversations"] += 1
        for message in messages:
            self.counts[f"role {message.role}"] += 1
        answers = sum(message.role == "assistant" for message in messages)
        self.counts[f"turns {min(answers, MOST_TURNS)}"] += 1
        if not any(message.role in ("user", "tool") for message in messages):
            self.hit("no_question", row)
        if messages and messages[0].role == "system":
            self._system(row, messages[0].content)

    def _system(self, row: RowFacts, text: str) -> None:
        self.value("systems", text)
        if not text.strip():
            self.hit("empty_system", row)
        elif self.context.template is not None and not self.context.template.takes_system:
            self.hit("unplaced_system", row)

    def findings(self, outcome: GateOutcome) -> list[Finding]:
        """Return what was found."""
        return self.found(self.kinds, max(1, self.counts["conversations"]))

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of turns by role, of conversations by number of answers, and the most frequent system
        texts."""
        tables: dict[str, Counter[str]] = {"role": Counter(), "turns": Counter()}
        for name, count in self.counts.items():
            table, _, key = name.partition(" ")
            if key:
                tables[table][key] = count
        systems = self.values.get("systems", DistinctValues())
        counted = systems.counted()
        return {
            "conversations": self.counts["conversations"],
            "turns_by_role": most_first(tables["role"]),
            "conversations_by_answers": {
                key: tables["turns"][key] for key in sorted(tables["turns"], key=int)
            },
            "with_system": len(systems.hashes),
            "different_systems": len(counted),
            "most_frequent_systems": [
                {"text": text, "rows": count} for _, text, count in counted[:SHOWN_SYSTEMS]
            ],
        }
