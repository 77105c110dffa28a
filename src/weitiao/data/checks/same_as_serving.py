"""Whether training sees token by token what serving will: the prompt's ids, and the answer as it was written."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar

from ..conversation import Conversation, Message
from ..example import TokenSequence
from ..formats._base import RowError
from ..forms import parts
from ..templates.spans import without_reasoning
from ._base import GateOutcome, RowFacts
from ._kinds import Kind, KindsCheck, excerpt

ALL_BELOW = 500
"""All rows before this number are compared; later ones are sampled, one in `ONE_IN`, by a hash of their number."""
ONE_IN = 32
SPREAD = 2654435761
"""Multiplier of Knuth's multiplicative hash."""


class SameAsServing(KindsCheck):
    """Compares the training sequence of the last trained answer with the prompt used in serving."""

    needs_tokens: ClassVar[bool] = True
    kinds: ClassVar[Mapping[str, Kind]] = {
        "prompt": Kind(
            "error",
            "the tokens before an answer differ between training and serving",
            "set data.template=instruction, or use the model's own chat template; weitiao chat then uses "
            "the same one",
        ),
        "answer": Kind(
            "warning",
            "the tokens of an answer do not decode to its text",
            "replace these characters: the tokenizer does not know them",
        ),
    }

    def observe(self, row: RowFacts) -> None:
        """Compare a sampled row, unless it was cut or left out."""
        if self.context.template is None or not row.sequences or row.cut_tokens or not _is_drawn(row.number):
            return
        compared = False
        for _, part in parts(row.form):
            if isinstance(part, Conversation):
                compared = self._compare(row, part) or compared
        self.counts["compared"] += compared

    def _compare(self, row: RowFacts, talk: Conversation) -> bool:
        """Compare one conversation; returns whether a comparison was possible."""
        template, tokenizer = self.context.template, self.context.tokenizer
        if template is None or tokenizer is None:
            return False
        *before, last = _to_the_last_trained(talk)
        if self.context.settings.reasoning == "drop":
            before = [without_reasoning(message) for message in before]
        try:
            prompt = template.prompt(before, talk.tools).ids
        except RowError:
            return False
        own = [sequence for sequence in row.sequences if sequence.ids[: len(prompt)] == prompt]
        if not own:
            self.hit("prompt", row, _first_difference(row.sequences[-1], prompt))
            return True
        if _is_special(talk):
            return True
        wanted = _comparable(last.content)
        said = [_comparable(tokenizer.decode(self._answer(sequence, len(prompt)))) for sequence in own]
        # For an answer without reasoning, a template may write an empty reasoning block, or, if the prompt opens one,
        # only its closing tag.
        said = [text.removeprefix("<think>").removeprefix("</think>") for text in said]
        if wanted not in said:
            self.hit("answer", row, excerpt(said[0]))
        return True

    def _answer(self, sequence: TokenSequence, start: int) -> list[int]:
        """Return the ids from `start` to before the last stop token."""
        stops = self.context.template.stop_ids if self.context.template else frozenset()
        ids = list(sequence.ids[start:])
        end = next((at for at in range(len(ids) - 1, -1, -1) if ids[at] in stops), len(ids))
        return ids[:end]

    def facts(self, outcome: GateOutcome) -> Mapping[str, Any]:
        """Return how many rows were compared, and how many there are."""
        return {"rows_compared": self.counts["compared"], "rows": outcome.rows}


def _to_the_last_trained(talk: Conversation) -> tuple[Message, ...]:
    """Return the turns up to the last answer with a non-zero weight: a sequence may end there."""
    trained = [
        at for at, message in enumerate(talk.messages) if message.role == "assistant" and message.weight != 0
    ]
    return talk.messages[: trained[-1] + 1] if trained else talk.messages


def _is_drawn(number: int) -> bool:
    return number < ALL_BELOW or (number * SPREAD >> 16) % ONE_IN == 0


def _is_special(talk: Conversation) -> bool:
    """Return whether the rendered answer may differ from the row's text: reasoning, tool calls, weights."""
    return bool(talk.tools) or any(_has_more(message) for message in talk.messages)


def _has_more(message: Message) -> bool:
    return bool(message.extra) or message.weight is not None or "<think>" in message.content


def _comparable(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def _first_difference(sequence: TokenSequence, prompt: tuple[int, ...]) -> str:
    pairs = zip(sequence.ids, prompt, strict=False)
    at = next(
        (n for n, (one, other) in enumerate(pairs) if one != other), min(len(sequence.ids), len(prompt))
    )
    return f"token {at + 1}: trained {sequence.ids[at : at + 3]}, served {prompt[at : at + 3]}"
