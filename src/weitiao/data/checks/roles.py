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
            "put the question into a user turn, or use plain text (data.sources.format=text)",
        ),
        "empty_system": Kind(
            "note",
            "system prompts are empty; they are kept, so the template does not write its default one",
            "fine if there should be no system prompt; leave the turn out for the template's default",
        ),
        "unplaced_system": Kind(
            "note",
            "this model's template has no place for a system prompt, so it is written before the first "
            "question",
            "nothing to do: serving does the same",
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
