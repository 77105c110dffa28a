"""Whether every text begins with exactly one begin token, where the tokenizer or the chat template uses one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..conversation import Conversation, Message
from ..forms import Labelled, Tagged, Text, Tokens
from ._base import GateContext, RowFacts
from ._kinds import Kind, KindsCheck


class BeginToken(KindsCheck):
    """Looks for doubled and missing begin tokens, and for begin tokens written in the data."""

    needs_tokens: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {
        "double": Kind(
            "error",
            "texts begin with two begin tokens",
            "remove the begin token from the chat template: the tokenizer adds one itself",
        ),
        "inside": Kind(
            "error",
            "texts contain a second begin token, where the template usually writes only one",
            "data.template=instruction, or correct the chat template, which writes a second one for some "
            "rows",
        ),
        "missing": Kind(
            "error",
            "texts do not begin with the begin token that the tokenizer puts before every text",
            "use a chat template that begins with bos_token, or data.template=instruction",
        ),
        "none": Kind(
            "note",
            "conversations do not begin with the begin token: this model's chat template writes none, and "
            "chat servers (apply_chat_template, vLLM) add none",
            "nothing to do: chat and evaluation do the same; if your server adds one (llama.cpp may), use "
            "a chat template that begins with bos_token",
        ),
        "written": Kind(
            "warning",
            "texts of the data already begin with the characters of the begin token",
            "remove these characters from the data: the template adds the begin token",
        ),
    }

    def __init__(self, context: GateContext) -> None:
        super().__init__(context)
        tokenizer = context.tokenizer
        self._bos_id = None if tokenizer is None else tokenizer.bos_token_id
        self._bos = "" if tokenizer is None or tokenizer.bos_token is None else str(tokenizer.bos_token)
        first = [] if tokenizer is None else list(tokenizer("a")["input_ids"])[:1]
        self._is_once = self._bos_id is not None and self._writes_once(self._bos_id)
        self._is_added = self._bos_id is not None and first == [self._bos_id]

    def observe(self, row: RowFacts) -> None:
        """Look at the beginning of each sequence and each text."""
        bos = self._bos_id
        if bos is None or isinstance(row.form, Tokens):
            return
        # A long text is cut into pieces; only the first piece has a begin token.
        begun = row.sequences[:1] if isinstance(row.form, Text) else row.sequences
        for sequence in begun:
            if sequence.ids[:2] == (bos, bos):
                self.hit("double", row)
            elif self._is_once and bos in sequence.ids[1:]:
                self.hit("inside", row, f"token {sequence.ids.index(bos, 1) + 1}")
            if self._is_added and sequence.ids[:1] != (bos,):
                self.hit("missing" if self._must_open(row) else "none", row)
        if any(turn.content.lstrip().startswith(self._bos) for turn in row.text.turns):
            self.hit("written", row, self._bos)

    def _must_open(self, row: RowFacts) -> bool:
        """Return whether a row's texts get the tokenizer's begin token, independent of the template."""
        template = self.context.template
        return isinstance(row.form, Text | Labelled | Tagged) or (
            template is not None and template.opens_texts
        )

    def _writes_once(self, bos_id: int) -> bool:
        """Return whether the template writes the begin token at most once per conversation, and not to end answers."""
        template = self.context.template
        if template is None or bos_id in template.stop_ids:
            return False
        turns = (Message("user", "a"), Message("assistant", "b")) * 2
        return all(one.ids.count(bos_id) <= 1 for one in template.render(Conversation(turns, "probe")))
