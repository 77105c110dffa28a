"""Extracts a row's texts once for all checks: its turns, its question, and the answers to be learnt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..conversation import Conversation, Message
from ..forms import AnyForm, Choice, Labelled, Pair, Preference, Scored, Tagged, Text, Tokens, Turns, Unpaired
from ._sketch import hash_of, normal_codes, sketch_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIRST_LETTER, LETTERS = 0x4E00, 20_000
"""A range of Unicode in which every character is a letter."""


@dataclass(frozen=True)
class RowText:
    """The texts of one row."""

    turns: Turns
    """All turns, each once; a text without a role counts as a user turn."""
    asked: str
    """Everything before the last answer, without system texts."""
    said: str
    """The last answer, or the label; all versions if the row has several."""
    mark: str = ""
    """Other content that distinguishes two rows (labels, scores, tags, token ids)."""
    wanted: tuple[str, ...] = ()
    """The answers that the model should learn to write: no rejected ones, no labels, no tool calls."""
    one_answer: bool = False
    """Whether equal questions should have equal answers; not so for preferences and scored answers."""

    @cached_property
    def asked_codes(self) -> NDArray[np.uint32]:
        """The normalised characters of the question (N,)."""
        return normal_codes(self.asked)

    @cached_property
    def said_codes(self) -> NDArray[np.uint32]:
        """The normalised characters of the answer (N,)."""
        return normal_codes(self.said)

    @property
    def codes(self) -> NDArray[np.uint32]:
        """The normalised characters of question and answer (N,)."""
        import numpy as np

        return np.concatenate((self.asked_codes, self.said_codes))

    @cached_property
    def fingerprint(self) -> RowHashes:
        """The hashes and the sketch by which rows are compared."""
        system = "\n".join(turn.content for turn in self.turns if turn.role == "system")
        exact = _hash_of_text("\0".join((system, self.asked, self.said, self.mark)))
        asked, said = self.asked_codes, self.said_codes
        parts = (asked.tobytes(), b"\xff", said.tobytes(), self.mark.encode("utf-8", "surrogatepass"))
        # A text of punctuation only has no normalised characters, so its exact hash is used.
        normal = hash_of(b"\0".join(parts)) if len(asked) or len(said) else exact
        question = hash_of(asked.tobytes()) if len(asked) else _hash_of_text(self.asked)
        # The same question with a different system text counts as a different question.
        under = _hash_of_text(f"{system}\0{question}") if system else question
        answer = hash_of(said.tobytes()) if len(said) else _hash_of_text(self.said)
        return RowHashes(exact, normal, question, under, answer, sketch_of(self.codes))


@dataclass(frozen=True)
class RowHashes:
    """Hashes of a row's whole text (exact and normalised), of its normalised question (alone and with the system text)
    and of its normalised answer; and its sketch."""

    exact: int
    normal: int
    asked: int
    asked_under_system: int
    said: int
    sketch: bytes


def _hash_of_text(text: str) -> int:
    return hash_of(text.encode("utf-8", "surrogatepass"))


def row_text(form: AnyForm) -> RowText:
    """Return the texts of a row."""
    match form:
        case Conversation():
            return _conversation(form)
        case Preference():
            turns = (*form.prompt, *form.chosen, *form.rejected)
            said = _written((*form.chosen, *form.rejected))
            return RowText(turns, _asked(form.prompt), said, wanted=_spoken(form.chosen))
        case Unpaired():
            wanted = _spoken(form.completion) if form.label else ()
            turns = (*form.prompt, *form.completion)
            return RowText(turns, _asked(form.prompt), _written(form.completion), str(form.label), wanted)
        case Scored():
            answers = tuple(message for turns in form.completions for message in turns)
            mark = " ".join(map(str, form.scores))
            return RowText((*form.prompt, *answers), _asked(form.prompt), _written(answers), mark)
    return _plain(form)


def _plain(form: Text | Choice | Labelled | Tagged | Pair | Tokens) -> RowText:
    match form:
        case Text():
            return RowText((Message("user", form.text),), "", form.text)
        case Tokens():
            # Each id becomes a letter, so that these rows are compared like texts; it is never shown.
            letters = "".join(chr(FIRST_LETTER + id % LETTERS) for id in form.ids)
            return RowText((), "", letters, " ".join(map(str, (*form.ids, *form.weights))))
        case Choice():
            answers = tuple(Message("assistant", text) for text in form.choices)
            asked = "\n".join((_asked(form.prompt), *sorted(form.choices)))
            said = form.choices[form.correct]
            return RowText((*form.prompt, *answers), asked, said, one_answer=True)
        case Labelled():
            turns = tuple(Message("user", text) for text in (form.text, form.second) if text)
            asked = f"{form.text}\n{form.second}" if form.second else form.text
            return RowText(turns, asked, ", ".join(form.labels), one_answer=True)
        case Tagged():
            asked = " ".join(form.tokens)
            return RowText((Message("user", asked),), asked, "", " ".join(form.tags))
        case Pair():
            turns = (Message("user", form.source), Message("assistant", form.target))
            return RowText(turns, form.source, form.target)


def _conversation(form: Conversation) -> RowText:
    messages = form.messages
    *before, last = messages
    trained = tuple(message for message in messages if message.role == "assistant" and message.weight != 0)
    return RowText(messages, _asked(before), _written((last,)), wanted=_spoken(trained), one_answer=True)


def _asked(messages: Iterable[Message]) -> str:
    return _written(message for message in messages if message.role != "system")


def _written(messages: Iterable[Message]) -> str:
    """Join the contents of messages and their extra fields, such as tool calls."""
    return "\n".join(
        f"{message.content}{json.dumps(beside, sort_keys=True, default=str)}" if beside else message.content
        for message, beside in ((message, _beside(message)) for message in messages)
    )


def _beside(message: Message) -> Mapping[str, object]:
    """Return a message's extra fields, without those of a question whose text is also in its content."""
    if message.role != "user":
        return message.extra
    return {
        name: value
        for name, value in message.extra.items()
        if not (isinstance(value, str) and value in message.content)
    }


def _spoken(messages: Iterable[Message]) -> tuple[str, ...]:
    return tuple(
        message.content
        for message in messages
        if message.role == "assistant" and not message.extra.get("tool_calls")
    )
