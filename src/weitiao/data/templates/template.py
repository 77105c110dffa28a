"""Renders conversations into text and token ids, with the same code for training and for serving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError, Problem
from ..conversation import Conversation, Message, Prompt
from ..example import TokenSequence
from ..formats._base import RowError
from ..forms import Text
from .answer_tokens import AnswerTokens, candidates
from .call_ids import CallIds, wanted_ids
from .encoder import ControlTokens, Encoder, Piece, any_of, special_tokens, template_source
from .spans import ANSWERS, UNPLACED, Masks, Renderer, Span, WeightedText, variables, without_reasoning
from .template_cache import Plans
from .template_choice import AUTO, Kind, Wording, dressed

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

SYSTEM, QUESTION, ANSWER = "weitiaosystem", "weitiaoquestion", "weitiaoanswer"
WITH_A_ROLE = [f"{name}_token" for name in ("bos", "eos", "pad", "unk", "sep", "cls", "mask")]
PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "weitiaotool",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    },
}
PROBE = (Message("user", QUESTION), Message("assistant", ANSWER))


class ChatWriter:
    """Renders messages into text with a tokenizer's chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, day: date | None = None) -> None:
        self._tokenizer, self._day = tokenizer, day

    def write(self, messages: Sequence[Message], tools: Sequence[Any] = (), *, asks: bool) -> str:
        """Return the text, which ends with the prompt for an answer if `asks`; raises RowError with the template's
        message if it refuses."""
        from .sandbox import REFUSALS, Now, compiled

        given = {
            **self._tokenizer.special_tokens_map,
            "messages": variables(messages),
            "tools": list(tools) or None,
            "documents": None,
            "strftime_now": Now(self._day),
            "add_generation_prompt": asks,
        }
        try:
            source = self._tokenizer.get_chat_template(tools=list(tools) or None)
            return compiled(source).render(given)
        except REFUSALS as error:
            raise RowError("the chat template refuses it", str(error) or type(error).__name__) from error


class Template:
    """Renders conversations for one tokenizer."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        kind: Kind,
        stop_ids: set[int],
        day: date | None = None,
    ) -> None:
        """Take a tokenizer whose chat template is already that of `kind` (see `template_choice.dressed`); raises
        ModelError if answers would not end in a token that generation stops on.

        `day` is the date given to templates that write one; None means the current time of each rendering.
        """
        self.kind = kind
        self.day = day
        self.stop_ids = frozenset(stop_ids)
        self._stops = [str(token) for token in tokenizer.convert_ids_to_tokens(sorted(stop_ids)) if token]
        self._stop = any_of(self._stops)
        self._writer = ChatWriter(tokenizer, day)
        self._encoder = Encoder(tokenizer)
        self._renderer = Renderer(self._write, self._stop)
        with_tools = self._with_tools(self._renderer, [PROBE_TOOL])
        self.call_ids = wanted_ids(with_tools.write) if kind == "chat" else CallIds()
        """The ids that the template wants calls to have."""
        in_answers = self._in_answers(tokenizer, with_tools)
        self.control_tokens = ControlTokens(tokenizer, self._stops, in_answers)
        self.answer_ids = frozenset(map(int, tokenizer.convert_tokens_to_ids(sorted(in_answers))))
        """The special tokens that belong to answers, such as those around reasoning."""
        self._plans: dict[Masks, Plans] = {}
        self.tokenizer = tokenizer
        """The tokenizer saved with a result; its chat template renders the same text in other tools."""
        self.takes_system = writes_system(self._writer)
        self._check()

    def _in_answers(self, tokenizer: PreTrainedTokenizerBase, with_tools: Renderer) -> frozenset[str]:
        """Return the special tokens that belong to answers."""
        if self.kind != "chat":
            return frozenset()
        own = {str(tokenizer.special_tokens_map.get(name)) for name in WITH_A_ROLE}
        specials = special_tokens(tokenizer) - own - {*self._stops}
        inside = candidates(specials, template_source(tokenizer))
        return AnswerTokens(self._renderer, with_tools, inside).found() if inside else frozenset()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the constructor's arguments; the other process rebuilds the template from them."""
        return Template, (self.tokenizer, self.kind, set(self.stop_ids), self.day)

    @property
    def writes_date(self) -> bool:
        """Whether the template reads the date, so that its text differs from day to day."""
        return "strftime_now" in template_source(self.tokenizer)

    @cached_property
    def before_question(self) -> str:
        """The text before a question without a system message, such as the template's own system prompt."""
        return self._write(PROBE[:1], True).partition(QUESTION)[0]

    @property
    def vocabulary(self) -> int:
        """The number of token ids, including added tokens."""
        return len(self.tokenizer)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Prompt:
        """Return the prompt for the next answer; raises RowError if the template refuses the messages."""
        marked, described, marks = self._prepared(messages, tools)
        renderer = self._with_tools(self._renderer, described)
        text = renderer.write(marked, True)
        layout = renderer.prompt(text, renderer.turns(marked))
        ids = self._encoder.encode(self._segments(layout, marks, self.opens_texts))
        return Prompt(tuple(chain.from_iterable(ids)), _unmarked(text, marks))

    def answers(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[str]:
        """Return each answer's text as a model generates it, with its end token; raises RowError if the template
        refuses the messages."""
        marked, described, marks = self._prepared(messages, tools)
        turns = self._with_tools(self._renderer, described).turns(marked)
        return [_unmarked(turn.text[turn.answer_from :], marks) for turn in turns]

    def without_end(self, answer: str) -> str:
        """Return an answer's text without the token that ends it."""
        return next((answer.removesuffix(stop) for stop in self._stops if answer.endswith(stop)), answer)

    def render(self, conversation: Conversation, masks: Masks = ANSWERS) -> list[TokenSequence]:
        """Return one sequence that trains every answer, or one per answer if the template changes earlier turns.

        Raises RowError if the template refuses the conversation.
        """
        (rendered,) = self.render_many([conversation], masks)
        if isinstance(rendered, RowError):
            raise rendered
        return rendered

    def render_many(
        self, given: Sequence[Conversation | Text], masks: Masks = ANSWERS
    ) -> list[list[TokenSequence] | RowError]:
        """Render many conversations and texts in one batch, which encodes much faster.

        A conversation that the template refuses gives a RowError, one without trained tokens an empty list.
        """
        laid = [self._layouts_or_error(one, masks) for one in given]
        return self._sequences(given, laid)

    def render_last(self, conversation: Conversation, masks: Masks = ANSWERS) -> TokenSequence:
        """Return one sequence that trains the last answer only; raises RowError as `render`."""
        (sequence,) = self.render(conversation, replace(masks, train_on="last"))
        return sequence

    def _layouts_or_error(
        self, one: Conversation | Text, masks: Masks
    ) -> tuple[list[WeightedText], dict[str, str]] | RowError:
        try:
            return self._text_layout(one) if isinstance(one, Text) else self._layouts(one, masks)
        except RowError as error:
            return error

    def _layouts(self, one: Conversation, masks: Masks) -> tuple[list[WeightedText], dict[str, str]]:
        messages: Sequence[Message] = one.messages
        if masks.reasoning == "drop":
            messages = [without_reasoning(message) for message in messages]
        marked, tools, marks = self._prepared(messages, one.tools)
        if masks not in self._plans:
            self._plans[masks] = Plans(replace(self._renderer, masks=masks), self._stops)
        if not tools:
            return self._plans[masks].layouts(marked), marks
        renderer = self._with_tools(replace(self._renderer, masks=masks), tools)
        return renderer.layouts(marked), marks

    def _text_layout(self, one: Text) -> tuple[list[WeightedText], dict[str, str]]:
        (message,), _, marks = self.control_tokens.mark([Message("user", one.text)])
        return [WeightedText((message.content,), (1.0,))], marks

    def _sequences(
        self,
        given: Sequence[Conversation | Text],
        laid: Sequence[tuple[list[WeightedText], dict[str, str]] | RowError],
    ) -> list[list[TokenSequence] | RowError]:
        """Encode all pieces of all layouts in one call, and assemble the sequences."""
        segments = [
            segment
            for form, one in zip(given, laid, strict=True)
            if not isinstance(one, RowError)
            for layout in one[0]
            for segment in self._segments(layout, one[1], isinstance(form, Text) or self.opens_texts)
        ]
        encoded = iter(zip(segments, self._encoder.encode(segments), strict=True))
        rendered: list[list[TokenSequence] | RowError] = []
        for one, own in zip(given, laid, strict=True):
            if isinstance(own, RowError):
                rendered.append(own)
                continue
            end = self._end if isinstance(one, Text) else ()
            sequences = [self._sequence(layout, islice(encoded, len(layout.texts)), end) for layout in own[0]]
            rendered.append([sequence for sequence in sequences if any(sequence.weights[1:])])
        return rendered

    def _sequence(
        self, layout: WeightedText, encoded: Iterable[tuple[Piece, tuple[int, ...]]], end: tuple[int, ...]
    ) -> TokenSequence:
        ids: tuple[int, ...] = ()
        weights: tuple[float, ...] = ()
        at = 0
        for (segment, own), weight in zip(encoded, layout.weights, strict=True):
            ids += own
            inside = [span for span in layout.overlays if span[0] < at + len(segment.text) and at < span[1]]
            if inside:
                weights += self._overlaid(segment, at, weight, inside)
            else:
                weights += (weight,) * len(own)
            at += len(segment.text)
        return TokenSequence(ids + end, weights + (1.0,) * len(end))

    def _overlaid(self, segment: Piece, at: int, weight: float, spans: Sequence[Span]) -> tuple[float, ...]:
        """Return each token's weight: that of the last span that contains the token's last character, else `weight`."""
        return tuple(
            next((own for start, end, own in reversed(spans) if start <= at + last < end), weight)
            for last in self._encoder.last_characters(segment)
        )

    def _segments(self, layout: WeightedText, marks: Mapping[str, str], opens: bool) -> list[Piece]:
        if not self._encoder.minds_ends:
            return [Piece(text, not at, opens and not at, marks) for at, text in enumerate(layout.texts)]
        ends = tuple(self._stops)
        segments = []
        before = ""
        for text in layout.texts:
            follows = bool(before) and before.endswith(ends)
            segments.append(Piece(text, not before, opens and not before, marks, follows))
            before = text
        return segments

    @property
    def opens_texts(self) -> bool:
        """Whether the tokenizer's begin token is put before a conversation.

        Not for a chat template, which writes its own if it wants one: transformers' apply_chat_template and vLLM's chat
        API add none either.
        """
        return self.kind != "chat"

    @property
    def _end(self) -> tuple[int, ...]:
        """The token that ends a text."""
        own = self.tokenizer.eos_token_id
        return (own if isinstance(own, int) else min(self.stop_ids),)

    def _write(self, messages: Sequence[Message], asks: bool) -> str:
        return self._writer.write(messages, (), asks=asks)

    def _with_tools(self, renderer: Renderer, tools: Sequence[Any]) -> Renderer:
        if not tools:
            return renderer
        return replace(renderer, write=lambda messages, asks: self._writer.write(messages, tools, asks=asks))

    def _prepared(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Message], list[Any], dict[str, str]]:
        """Move the system message into the first question if the template takes none, give calls their ids, and mark
        control tokens."""
        if messages and messages[0].role == "system" and not self.takes_system:
            messages = _folded(messages)
        messages = self.call_ids.given_to(messages)
        return self.control_tokens.mark(messages, tools)

    def _check(self) -> None:
        """Render a probe; raises ModelError unless its answers end in a stop token."""
        try:
            sequences = self.render(Conversation((*PROBE, *PROBE), "probe"))
        except RowError as error:
            raise ModelError(self._untrainable(error)) from error
        last_ids = {sequence.ids[-1] for sequence in sequences}
        if not last_ids <= self.stop_ids:
            raise ModelError(
                Problem(
                    "answers do not end with a token that stops generation",
                    f"they end in the ids {sorted(last_ids)}",
                    f"one of {sorted(self.stop_ids)}",
                    "data.template=instruction, or a tokenizer whose end token is one token",
                )
            )

    def _untrainable(self, error: RowError) -> Problem:
        remedy = (
            "make the token that ends a turn the tokenizer's eos_token (generation config: eos_token_id), "
            "or data.template=instruction"
        )
        what = f"this tokenizer's template cannot be trained on: {error.reason}"
        return Problem(what, error.detail, "an answer that ends in " + " or ".join(self._stops), remedy)


def writes_system(writer: ChatWriter) -> bool:
    """Return whether a template accepts a system message and keeps it in its place.

    Some templates refuse it, some ignore it, and Mistral's moves it to the latest question.
    """
    system = Message("system", SYSTEM)
    try:
        prompt = writer.write([system, *PROBE[:1]], asks=True)
        return SYSTEM in prompt and writer.write([system, *PROBE], asks=False).startswith(prompt)
    except RowError:
        return False


def choose_template(
    tokenizer: PreTrainedTokenizerBase,
    wording: Wording | str = AUTO,
    generation_config: GenerationConfig | None = None,
    day: date | None = None,
) -> Template:
    """Return the template for a wording (or a template's name), checked on a probe; raises ModelError, with a remedy,
    if there is none. `day` as in `Template`."""
    wording = Wording(wording) if isinstance(wording, str) else wording
    has_chat = tokenizer.chat_template is not None
    kind = wording.kind(has_chat)
    if kind == "chat" and not has_chat:
        raise ModelError(
            Problem(
                "the tokenizer has no chat template",
                "data.template=chat",
                "a chat model's tokenizer",
                "data.template=instruction",
            )
        )
    if kind == "chat":
        _check_names(tokenizer)
    if (kind != "chat" or wording.task_templates) and tokenizer.eos_token is None:
        raise ModelError(
            Problem(
                "the tokenizer has no end-of-sequence token, so an answer could never end",
                "eos_token is not set",
                "a tokenizer with eos_token",
                "set eos_token in the model's tokenizer_config.json",
            )
        )
    stops = stop_token_ids(tokenizer, generation_config)
    if not stops:
        raise ModelError(
            Problem(
                "no token that ends an answer is known",
                "no eos_token, no eos_token_id in generation_config.json",
                "a tokenizer with eos_token",
                "set eos_token in the model's tokenizer_config.json",
            )
        )
    chosen = dressed(tokenizer, wording, kind, lambda one: writes_system(ChatWriter(one, day)))
    return Template(chosen, kind, stops, day)


def _check_names(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError for several named templates without one named "default", as transformers does."""
    own = tokenizer.chat_template
    if isinstance(own, str) or (isinstance(own, Mapping) and isinstance(own.get("default"), str)):
        return
    named = isinstance(own, Mapping)
    raise ModelError(
        Problem(
            "the tokenizer has several chat templates, and none is the default one"
            if named
            else "the tokenizer's chat template is not text",
            ("their names: " + ", ".join(map(repr, own))) if named else type(own).__name__,
            "one template, or one whose name is 'default'",
            "name one of them 'default' in the tokenizer's files (chat_template in tokenizer_config.json, or "
            "chat_template.jinja), or data.template=instruction",
        )
    )


def stop_token_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None
) -> set[int]:
    """Return the ids that generation stops on: the tokenizer's eos and those of the generation config.

    Raises ModelError if the generation config's `eos_token_id` holds values that are not ids.
    """
    configured = None if generation_config is None else generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    if not all(one is None or (isinstance(one, int) and one >= 0) for one in listed):
        what = "the model's generation_config.json has stop tokens that are not ids"
        raise ModelError(Problem(what, f"eos_token_id: {configured!r:.80}", "a number, or a list of numbers"))
    return {int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None}


def _folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Put the system text at the beginning of the first question; an empty one is dropped. Raises RowError if the two
    have different weights."""
    system, *rest = messages
    if not system.content.strip() and rest:
        return rest
    if rest and (system.weight or 0.0) != (rest[0].weight or 0.0):
        raise RowError(UNPLACED, "it writes the system text as part of the first question")
    content = f"{system.content}\n\n{rest[0].content}" if rest else system.content
    return [replace(rest[0], content=content) if rest else Message("user", content), *rest[1:]]


def _unmarked(text: str, marks: Mapping[str, str]) -> str:
    """Return a text with marks replaced by the control tokens they stand for."""
    for mark, token in marks.items():
        text = text.replace(mark, token)
    return text
