"""How a conversation becomes text and token ids, for training and for serving: the same code for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Literal, Protocol

from ..core.errors import ModelError, Problem
from .conversation import Conversation, Example, Message, Prompt
from .encoder import ControlTokens, Encoder, Segment, any_of
from .formats._base import RowError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

Kind = Literal["auto", "chat", "instruction"]

SYSTEM, QUESTION, ANSWER = "weitiaosystem", "weitiaoquestion", "weitiaoanswer"
PROBE = (Message("user", QUESTION), Message("assistant", ANSWER))


class Writer(Protocol):
    """Turns messages into text."""

    def write(self, messages: Sequence[Message], *, asks: bool) -> str:
        """Return the text; with `asks` it ends where an answer begins. Raises RowError where it refuses
        them."""


class ChatWriter:
    """The tokenizer's own chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def write(self, messages: Sequence[Message], *, asks: bool) -> str:
        """Return the template's text; raises RowError with the template's own words."""
        import jinja2

        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asks)
        except jinja2.TemplateError as error:
            raise RowError("the chat template refuses it", str(error)) from error
        return str(text)


class InstructionWriter:
    """Plain text with headings, for bases without a chat template; every answer ends in the end-of-sequence
    token.

    The headings are Stanford Alpaca's (https://github.com/tatsu-lab/stanford_alpaca), without its sentence in
    front.
    """

    def __init__(self, end: str) -> None:
        self._end = end

    def write(self, messages: Sequence[Message], *, asks: bool) -> str:
        """Return system, then turns under their headings, with blank lines between."""
        parts = {
            "system": "{}",
            "user": "### Instruction:\n{}",
            "assistant": "### Response:\n{}" + self._end.replace("{", "{{").replace("}", "}}"),
        }
        texts = [parts[message.role].format(message.content) for message in messages]
        return "\n\n".join([*texts, "### Response:\n"] if asks else texts)


@dataclass(frozen=True)
class _Turn:
    """One assistant turn rendered as the last: text up to and with its end token, and where its answer
    begins."""

    text: str
    answer_from: int


@dataclass(frozen=True)
class _Layout:
    """Text cut into segments with a loss weight each."""

    segments: list[Segment]
    weights: list[float]


class Template:
    """Renders conversations for one tokenizer."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, kind: Literal["chat", "instruction"], stop_ids: set[int]
    ) -> None:
        """Raises ModelError where answers would not end in a token that generation stops on."""
        self.kind = kind
        self.stop_ids = frozenset(stop_ids)
        self._stops = [str(token) for token in tokenizer.convert_ids_to_tokens(sorted(stop_ids)) if token]
        self._stop = any_of(self._stops)
        self._writer: Writer = (
            ChatWriter(tokenizer) if kind == "chat" else InstructionWriter(tokenizer.eos_token)
        )
        self._control = ControlTokens(tokenizer, self._stops)
        self._encoder = Encoder(tokenizer)
        self.takes_system = self._writes_system()
        self._check()

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """Return the ids to generate the next answer from; raises RowError where the template refuses the
        messages."""
        marked, marks = self._prepared(messages)
        text = self._writer.write(marked, asks=True)
        borders = _borders(text, self._turns(marked))
        layout = _cut(text, [(*border, 0.0) for border in borders], marks)
        for mark, token in marks.items():
            text = text.replace(mark, token)
        return Prompt(tuple(chain.from_iterable(self._encoder.encode(layout.segments))), text)

    def render(self, conversation: Conversation) -> list[Example]:
        """Return one example that trains every answer, or one an answer where the template changes earlier
        turns.

        Raises RowError where the template refuses the conversation.
        """
        (rendered,) = self.render_many([conversation])
        if isinstance(rendered, RowError):
            raise rendered
        return rendered

    def render_many(self, conversations: Sequence[Conversation]) -> list[list[Example] | RowError]:
        """Render many at once, which encodes much faster; a conversation the template refuses gives its
        RowError."""
        return self._examples(conversations, [self._layouts_or_error(one) for one in conversations])

    def render_last(self, conversation: Conversation) -> Example:
        """Return one example that trains the last answer only; raises RowError as `render`."""
        marked, marks = self._prepared(conversation.messages)
        (rendered,) = self._examples([conversation], [[_last_answer(self._turns(marked), marks)]])
        if isinstance(rendered, RowError):
            raise rendered
        return rendered[0]

    def _layouts_or_error(self, conversation: Conversation) -> list[_Layout] | RowError:
        try:
            marked, marks = self._prepared(conversation.messages)
            turns = self._turns(marked)
        except RowError as error:
            return error
        last = turns[-1]
        if all(last.text.startswith(turn.text) for turn in turns):
            return [_cut(last.text, [(turn.answer_from, len(turn.text), 1.0) for turn in turns], marks)]
        return [_last_answer(turns[: number + 1], marks) for number in range(len(turns))]

    def _examples(
        self, conversations: Sequence[Conversation], layouts: Sequence[list[_Layout] | RowError]
    ) -> list[list[Example] | RowError]:
        """Encode all segments of all layouts in one call."""
        given = [layout for one in layouts if isinstance(one, list) for layout in one]
        encoded = iter(self._encoder.encode([segment for layout in given for segment in layout.segments]))
        rendered: list[list[Example] | RowError] = []
        for conversation, own in zip(conversations, layouts, strict=True):
            if isinstance(own, RowError):
                rendered.append(own)
                continue
            examples = []
            for layout in own:
                parts = [(next(encoded), weight) for weight in layout.weights]
                ids = tuple(chain.from_iterable(part for part, _ in parts))
                weights = tuple(chain.from_iterable(repeat(weight, len(part)) for part, weight in parts))
                examples.append(Example(ids, weights, conversation.place, conversation.weight))
            rendered.append(examples)
        return rendered

    def _prepared(self, messages: Sequence[Message]) -> tuple[list[Message], dict[str, str]]:
        """Put the system text before the first question where the template takes none, and mark control
        tokens."""
        if messages and messages[0].role == "system" and not self.takes_system:
            system, *rest = messages
            folded = (
                Message("user", f"{system.content}\n\n{rest[0].content}")
                if rest
                else Message("user", system.content)
            )
            messages = [folded, *rest[1:]]
        return self._control.mark(messages)

    def _turns(self, messages: Sequence[Message]) -> list[_Turn]:
        """Render each assistant turn as the last one; raises RowError where the template refuses one."""
        answered = [index for index, message in enumerate(messages) if message.role == "assistant"]
        return [self._turn(messages[: index + 1]) for index in answered]

    def _turn(self, messages: Sequence[Message]) -> _Turn:
        prompt = self._writer.write(messages[:-1], asks=True)
        text = self._writer.write(messages, asks=False)
        if not text.startswith(prompt):
            raise RowError(
                "the chat template writes an answer otherwise than behind its prompt",
                _difference(prompt, text),
            )
        end = self._stop.search(text, len(prompt))
        if end is None:
            raise RowError(
                "the chat template ends an answer with no token that generation stops on", text[len(prompt) :]
            )
        return _Turn(text[: end.end()], len(prompt))

    def _writes_system(self) -> bool:
        """Whether the template has a place for a system message; some refuse it, some pass over it."""
        try:
            return SYSTEM in self._writer.write([Message("system", SYSTEM), *PROBE[:1]], asks=True)
        except RowError:
            return False

    def _check(self) -> None:
        """Render a probe; raises ModelError unless its answers end in a stop token that is trained on."""
        try:
            examples = self.render(Conversation((*PROBE, *PROBE), "probe"))
        except RowError as error:
            raise ModelError(self._untrainable(error)) from error
        last_ids = {example.ids[-1] for example in examples}
        if not last_ids <= self.stop_ids:
            raise ModelError(
                Problem(
                    "answers do not end in a token that generation stops on",
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


def choose_template(
    tokenizer: PreTrainedTokenizerBase, kind: Kind = "auto", generation_config: GenerationConfig | None = None
) -> Template:
    """Return the template of a kind, checked on a probe; raises ModelError with what to do where there is
    none."""
    has_chat = tokenizer.chat_template is not None
    chosen: Literal["chat", "instruction"] = (
        "chat" if kind == "chat" or (kind == "auto" and has_chat) else "instruction"
    )
    if chosen == "chat" and not has_chat:
        raise ModelError(
            Problem(
                "the tokenizer has no chat template",
                "data.template=chat",
                "a chat model's tokenizer",
                "data.template=instruction",
            )
        )
    if chosen == "instruction" and tokenizer.eos_token is None:
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
                "nothing says which token ends an answer",
                "no eos_token, no eos_token_id in generation_config.json",
                "a tokenizer with eos_token",
                "set eos_token in the model's tokenizer_config.json",
            )
        )
    return Template(tokenizer, chosen, stops)


def stop_token_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None
) -> set[int]:
    """Return the ids that generation stops on: the tokenizer's eos and those of the generation config."""
    configured = None if generation_config is None else generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return {int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None}


def _last_answer(turns: Sequence[_Turn], marks: dict[str, str]) -> _Layout:
    """Lay out the last of some turns with only its answer trained, and its context as a prompt has it."""
    *earlier, last = turns
    context = [(start, end, 0.0) for start, end in _borders(last.text[: last.answer_from], earlier)]
    return _cut(last.text, [*context, (last.answer_from, len(last.text), 1.0)], marks)


def _borders(text: str, turns: Sequence[_Turn]) -> list[tuple[int, int]]:
    """Return where the answers begin and end of those turns that stand in `text` as they were generated."""
    return [(turn.answer_from, len(turn.text)) for turn in turns if text.startswith(turn.text)]


def _cut(text: str, spans: Sequence[tuple[int, int, float]], marks: dict[str, str]) -> _Layout:
    """Cut text at (start, end, weight) spans; what lies between weighs nothing."""
    segments: list[Segment] = []
    weights: list[float] = []
    at = 0
    for start, end, weight in [*spans, (len(text), len(text), 0.0)]:
        for piece, piece_weight in ((text[at:start], 0.0), (text[start:end], weight)):
            if piece:
                segments.append(Segment(piece, not segments, marks))
                weights.append(piece_weight)
        at = end
    return _Layout(segments, weights)


def _difference(prompt: str, text: str, width: int = 40) -> str:
    """Show where a text leaves the prompt it should begin with."""
    at = next(
        (i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), min(len(prompt), len(text))
    )
    shown = slice(max(0, at - width), at + width)
    return f"prompt …{prompt[shown]!r}, answered …{text[shown]!r}"
