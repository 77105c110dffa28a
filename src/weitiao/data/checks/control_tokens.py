"""Control tokens written inside content, which are encoded as text, in training as in serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ..conversation import Conversation, Message
from ..forms import Preference, Scored, Text, Unpaired
from ..templates.encoder import any_of, texts_in
from ._base import GateContext, GateOutcome, RowFacts
from ._kinds import Kind, KindsCheck, around, excerpt, most_first

WITH_TOOLS = Conversation | Preference | Unpaired | Scored
Marked = tuple[object, object, Mapping[str, str]]


class ControlTokensInContent(KindsCheck):
    """Looks for the characters of control tokens, by role."""

    needs_tokens: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {
        "content": Kind(
            "warning",
            "content contains the characters of control tokens; they are encoded as text, never as control "
            "tokens",
            "remove them if they are left over from another template; keep them if the text is about them",
        ),
        "written": Kind(
            "warning",
            "texts are conversations already rendered with a chat template; its control tokens are encoded "
            "as text, so the model learns to spell them, not to use them",
            "give the turns as messages (role and content): the model's own template writes them",
        ),
    }

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        tokenizer, template = context.tokenizer, context.template
        if tokenizer is None or template is None:
            return
        stops = [str(token) for token in tokenizer.convert_ids_to_tokens(sorted(template.stop_ids)) if token]
        self._control = template.control_tokens
        asked = template.prompt([Message("user", "weitiao")]).text
        self._between = asked.rpartition("weitiao")[2].strip() if template.kind == "chat" else ""
        self._stop = any_of(stops)
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        self._firsts = sorted(
            {token.strip()[:1] for token in (*added, *tokenizer.all_special_tokens, *stops)}
        )

    def observe(self, row: RowFacts) -> None:
        """Look at every turn and at the tools."""
        if isinstance(row.form, Text) and self._is_written(row.form.text):
            self.hit("written", row, excerpt(row.form.text))
        for turn in row.text.turns:
            self._look(row, turn.role, turn.content, self._control.mark, [turn])
            for name, value in turn.extra.items():
                self._look(row, f"{turn.role} {name}", "\n".join(texts_in(value)), self._control.mark, [turn])
        if isinstance(row.form, WITH_TOOLS) and row.form.tools:
            self._look(
                row, "tools", "\n".join(texts_in(row.form.tools)), self._control.mark, [], row.form.tools
            )

    def _is_written(self, text: str) -> bool:
        """Return whether a text contains what the template writes between question and answer, and a stop token."""
        return bool(self._between) and self._between in text and self._stop.search(text) is not None

    def _look(
        self, row: RowFacts, where: str, text: str, mark: Callable[..., Marked], *given: Sequence[object]
    ) -> None:
        """Look at a text; call `mark` only if a character in it begins a control token, which is a fast test."""
        if not any(first in text for first in self._firsts):
            return
        *_, marks = mark(*given)
        for token in marks.values():
            if (at := text.find(token)) >= 0:
                self.counts[f"{where} {token}"] += 1
                self.hit("content", row, f"{where} {around(text, at, at + len(token))}")

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return the number of texts by role (and extra field) and token."""
        return {"turns_by_role_and_token": most_first(self.counts)}
