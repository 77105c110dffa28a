"""Locates the answers in a rendered text, and gives each part of the text its loss weight."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..conversation import Message
from ..formats._base import RowError

Write = Callable[[Sequence[Message], bool], str]
"""(messages, asks) -> text; with `asks` it ends with the prompt for an answer. Raises RowError if the template refuses
the messages."""
Span = tuple[int, int, float]
"""Start, end (exclusive) and loss weight of a part of the text, in characters."""

THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
OPENED = re.compile(r"<think>\s*\Z")
"""Finds an opening reasoning tag at the end of a prompt."""
OPENING = re.compile(r"\A\s*<think>\s*")
THOUGHT_TO_ITS_END = re.compile(r"(?:<think>)?(?:(?!<think>).)*?</think>\s*", re.DOTALL)
STAND_IN = "weitiaoquestion"
UNPLACED = "a message's weight cannot be placed: the chat template changes earlier turns"
REASONING = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True)
class Masks:
    """Which messages are trained, and whether reasoning is kept, dropped, or kept without training it."""

    train_on: Literal["all", "last", "answers"] = "answers"
    reasoning: Literal["keep", "drop", "mask"] = "keep"


ANSWERS = Masks()


@dataclass(frozen=True)
class Turn:
    """An assistant turn rendered as the last one: the text through its end token, and where its answer begins."""

    text: str
    answer_from: int


@dataclass(frozen=True)
class WeightedText:
    """Text split into pieces that are encoded separately, with one loss weight per piece."""

    texts: tuple[str, ...]
    weights: tuple[float, ...]
    overlays: tuple[Span, ...] = ()
    """Parts of the whole text whose weight overrides that of the pieces; they need not align with pieces."""

    @property
    def trains(self) -> bool:
        """Whether any part has a non-zero weight."""
        return any(self.weights) or any(weight for _, _, weight in self.overlays)


@dataclass(frozen=True)
class Renderer:
    """Renders messages into weighted text, given a function that renders them and a pattern of the stop tokens."""

    write: Write
    stop: re.Pattern[str]
    masks: Masks = ANSWERS
    begins: Callable[[str, str], bool] = str.startswith
    """Returns whether a text begins with another; for plans, whether it does for any contents (template_cache.py)."""

    def layouts(self, messages: Sequence[Message]) -> list[WeightedText]:
        """Return one layout that trains every answer, or one layout per answer if the template changes earlier turns.

        Raises RowError if the template refuses the messages.
        """
        turns = self.turns(messages)
        answers = [message for message in messages if message.role == "assistant"]
        weights = [self._answer_weight(one, one is answers[-1]) for one in answers]
        asks = _weighs_questions(messages)
        if self.masks.train_on == "last" and not asks:
            return [self._with_thoughts(self.last_answer(turns, weights[-1]), messages)]
        last = turns[-1]
        stays = all(self.begins(last.text, turn.text) for turn in turns)
        if self.masks.train_on == "all" or (asks and stays):
            return [self._every_token(messages, turns, weights)]
        if stays:
            spans = [(t.answer_from, len(t.text), weight) for t, weight in zip(turns, weights, strict=True)]
            return [self._with_thoughts(cut(last.text, spans), messages)]
        each = [
            self._with_thoughts(self._one_answer(messages, turns, number, weight), messages[: at + 1])
            for number, (at, weight) in enumerate(zip(_answered(messages), weights, strict=True))
        ]
        return [layout for layout in each if layout.trains] or [self.last_answer(turns, 0.0)]

    def _one_answer(
        self, messages: Sequence[Message], turns: Sequence[Turn], number: int, weight: float
    ) -> WeightedText:
        """Lay out one answer and its context; messages since the previous answer keep their own weights."""
        answered = _answered(messages)
        first = answered[number - 1] + 1 if number else 0
        laid = self.last_answer(turns[: number + 1], weight)
        spans = self._questions(messages[: answered[number] + 1], turns[number].text, first)
        return replace(laid, overlays=spans)

    def turns(self, messages: Sequence[Message]) -> list[Turn]:
        """Render each assistant turn as the last one; raises RowError if the template refuses one."""
        return [self._turn(messages[: index + 1]) for index in _answered(messages)]

    def last_answer(self, turns: Sequence[Turn], weight: float = 1.0) -> WeightedText:
        """Lay out the last turn with only its answer trained; its context is split into pieces as in a prompt."""
        *earlier, last = turns
        context = self.prompt(last.text[: last.answer_from], earlier)
        answer = last.text[last.answer_from :]
        return WeightedText((*context.texts, answer), (*context.weights, weight))

    def prompt(self, text: str, turns: Sequence[Turn]) -> WeightedText:
        """Lay out a prompt; each earlier answer that the template left unchanged is a piece of its own."""
        return cut(text, [(t.answer_from, len(t.text), 0.0) for t in turns if self.begins(text, t.text)])

    def _turn(self, messages: Sequence[Message]) -> Turn:
        prompt = self.write(messages[:-1], True)
        text = self.write(messages, False)
        opened = OPENED.search(prompt)
        if opened is not None and not self.begins(text, prompt):
            text = self._reopened(messages[-1], prompt, opened.start(), text)
        if not self.begins(text, prompt):
            raise RowError(
                "the chat template writes an answer otherwise than behind its prompt",
                _difference(prompt, text),
            )
        end = self.stop.search(text, len(prompt))
        if end is None:
            raise RowError(
                "the chat template ends an answer with no token that generation stops on", text[len(prompt) :]
            )
        return Turn(text[: end.end()], len(prompt))

    def _reopened(self, message: Message, prompt: str, opened_at: int, text: str) -> str:
        """Restore an answer's reasoning if the prompt opens it but the template drops it from the rendered answer.

        Later DeepSeek-R1 templates do this (https://huggingface.co/deepseek-ai/DeepSeek-R1): the model generates
        reasoning, its closing tag and the answer, but the template renders the answer alone. The returned text is what
        the model would generate.
        """
        end = self.stop.search(text, opened_at)
        if end is None or not self.begins(text, prompt[:opened_at]):
            return text
        beside = next((str(message.extra[name]) for name in REASONING if message.extra.get(name)), "")
        thought, closing, _ = message.content.rpartition("</think>")
        rest = text[opened_at:]
        if (
            "</think>" in rest[: end.start() - opened_at]
        ):  # the template kept the reasoning, with other whitespace
            return prompt + OPENING.sub("", rest)
        opened = thought.removeprefix("<think>").lstrip() if closing else f"{beside.strip()}\n"
        return f"{prompt}{opened}{closing or '</think>'}" + ("" if closing else "\n\n") + rest

    def _answer_weight(self, message: Message, is_last: bool) -> float:
        if message.weight is not None:
            return message.weight
        return 1.0 if is_last or self.masks.train_on != "last" else 0.0

    def _every_token(
        self, messages: Sequence[Message], turns: Sequence[Turn], weights: Sequence[float]
    ) -> WeightedText:
        """Lay out the whole text once; text without a weight from its message is trained if `train_on` is "all"."""
        *_, last = turns
        inside = [
            (turn.answer_from, len(turn.text), weight)
            for turn, weight in zip(turns, weights, strict=True)
            if self.begins(last.text, turn.text)
        ]
        between = 1.0 if self.masks.train_on == "all" else 0.0
        laid = cut(last.text, inside, between)
        return self._with_thoughts(replace(laid, overlays=self._questions(messages, last.text)), messages)

    def _questions(self, messages: Sequence[Message], text: str, first: int = 0) -> tuple[Span, ...]:
        """Return the spans of messages, from index `first` on, that have their own weight and are not answers."""
        weighed = [
            (number, message.weight)
            for number, message in enumerate(messages)
            if message.weight is not None and message.role != "assistant" and number >= first
        ]
        return tuple((*self._words(messages, number, text), weight) for number, weight in weighed)

    def _words(self, messages: Sequence[Message], number: int, text: str) -> tuple[int, int]:
        """Return start and end of a message's content in the rendered text, including its end token if it has one.

        Text that the template itself adds before it, such as a system prompt, is not included. Raises RowError if the
        template does not write the content as one piece. Finds the place by rendering with `STAND_IN` as the content.
        """
        message = messages[number]
        if not message.content:
            return 0, 0
        whole = self.write(messages, False)
        marked = [*messages[:number], replace(message, content=STAND_IN), *messages[number + 1 :]]
        before, found, behind = self.write(marked, False).partition(STAND_IN)
        start, end = len(before), len(whole) - len(behind)
        in_one_piece = found and STAND_IN not in behind and start <= end
        if not (in_one_piece and whole.startswith(before) and whole.endswith(behind)) or (
            not text.startswith(whole[:end])
        ):
            raise RowError(UNPLACED, f"turn {number + 1} is {message.role}")
        stop = self.stop.match(text, end)
        return start, stop.end() if stop else end

    def _with_thoughts(self, layout: WeightedText, messages: Sequence[Message]) -> WeightedText:
        """Give reasoning weight 0 if the masks say so."""
        if self.masks.reasoning != "mask":
            return layout
        spans: list[Span] = []
        at = 0
        for text, weight in zip(layout.texts, layout.weights, strict=True):
            spans += [(at + start, at + end, 0.0) for start, end in _thoughts(text, messages) if weight]
            at += len(text)
        return replace(layout, overlays=(*layout.overlays, *spans))


def cut(text: str, spans: Sequence[Span], between: float = 0.0) -> WeightedText:
    """Split text at (start, end, weight) spans; text between spans has the weight `between`."""
    texts: list[str] = []
    weights: list[float] = []
    at = 0
    for start, end, weight in [*spans, (len(text), len(text), between)]:
        for piece, piece_weight in ((text[at:start], between), (text[start:end], weight)):
            if piece:
                texts.append(piece)
                weights.append(piece_weight)
        at = end
    return WeightedText(tuple(texts), tuple(weights))


def without_reasoning(message: Message) -> Message:
    """Return an assistant message without its reasoning; other messages are unchanged."""
    if message.role != "assistant" or not has_reasoning(message):
        return message
    extra = {key: value for key, value in message.extra.items() if key not in REASONING}
    return replace(message, content=THOUGHT_TO_ITS_END.sub("", message.content), extra=extra)


def has_reasoning(message: Message) -> bool:
    """Return whether a message has reasoning, in its content or in a field of its own."""
    return "</think>" in message.content or any(message.extra.get(name) for name in REASONING)


def _thoughts(text: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
    """Return the spans of reasoning in a text: in think tags, else where a message's reasoning field appears in it."""
    found = [match.span() for match in THOUGHT_TO_ITS_END.finditer(text)]
    if found:
        return found
    beside = [str(m.extra[name]).strip() for m in messages for name in REASONING if m.extra.get(name)]
    return [(text.index(one), text.index(one) + len(one)) for one in beside if one and one in text]


def _weighs_questions(messages: Sequence[Message]) -> bool:
    return any(message.weight is not None and message.role != "assistant" for message in messages)


def _answered(messages: Sequence[Message]) -> list[int]:
    """Return the indices of the assistant messages."""
    return [index for index, message in enumerate(messages) if message.role == "assistant"]


def _difference(prompt: str, text: str, width: int = 40) -> str:
    """Show the first place where a text differs from the prompt it should begin with."""
    at = first_difference(prompt, text)
    shown = slice(max(0, at - width), at + width)
    return f"prompt …{prompt[shown]!r}, answered …{text[shown]!r}"


def first_difference(one: str, other: str) -> int:
    """Return the index of the first difference of two texts; if there is none, the length of the shorter one."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def variables(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as the variables that chat templates read.

    As in transformers: reasoning under both `thinking` and `reasoning_content`, None values dropped, and a call's
    arguments parsed into an object.
    """
    return [_turn_of(message) for message in messages]


def _turn_of(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if not message.extra:
        return turn
    turn |= {key: value for key, value in message.extra.items() if value is not None}
    thought = next((turn[name] for name in REASONING if name in turn), None)
    if thought is not None:
        turn = {"thinking": thought, **turn, "reasoning_content": thought}
    if isinstance(turn.get("tool_calls"), Sequence):
        turn["tool_calls"] = [_with_object(call) for call in turn["tool_calls"]]
    return turn


def _with_object(call: Any) -> Any:  # noqa: ANN401  (JSON)
    """Parse a call's arguments if they are a JSON string, as in OpenAI's format."""
    if not isinstance(call, Mapping):
        return call
    changed = {key: _with_object(value) if key == "function" else value for key, value in call.items()}
    if isinstance(changed.get("arguments"), str):
        try:
            changed["arguments"] = json.loads(changed["arguments"])
        except (ValueError, RecursionError):  # no JSON, or a number of more digits than Python reads
            return changed
    return changed
