"""Generates answers: many in batches, or one as a stream of text.

Shapes: B prompts of a batch, N answers each, R = B * N rows, T tokens of prompt and answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from ..core.errors import DataError, Problem
from ..methods._peft.prompt import PromptModel
from ..models.anatomy import base_of, context_tokens
from ..models.embedding_rows import require_rows
from .callbacks import OnProgress, ShouldStop, ignore_progress, never_stop
from .padding import batches
from .settings import GenerationSettings
from .stop_strings import PieceDecoder, StopCutter, cut_at, decoded
from .token_draws import Draws

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..data.conversation import Message, Prompt
    from ..data.templates.template import Template


@dataclass(frozen=True)
class Generated:
    """One answer."""

    text: str
    cut: bool = False
    """Whether it ended only because it reached the length limit."""


def generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    conversations: Sequence[Sequence[Message]],
    settings: GenerationSettings,
    should_stop: ShouldStop = never_stop,
) -> list[list[str]]:
    """Answer each conversation; return the texts of `generate_answers`."""
    answers = generate_answers(model, tokenizer, template, conversations, settings, should_stop)
    return [[answer.text for answer in own] for own in answers]


def generate_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    conversations: Sequence[Sequence[Message]],
    settings: GenerationSettings,
    should_stop: ShouldStop = never_stop,
    on_progress: OnProgress = ignore_progress,
) -> list[list[Generated]]:
    """Answer each conversation; return `num_return_sequences` answers each, in the given order.

    Prompts of similar length are batched with left padding, or only prompts of equal length where padding would change
    the answers (evaluation/padding.py); so batched answers equal those generated one by one, sampled ones included.
    The caller's random state and the model's mode are restored. If `should_stop` returns True, the answers so far are
    returned (empty for conversations not reached). `on_progress` is called after each token. Raises DataError for a
    conversation longer than the model's context, and for a token without an embedding in the model.
    """
    prompts = [template.prompt(messages) for messages in conversations]
    _require_rows(model, tokenizer, prompts)
    longest = _longest_answer(model, prompts, settings)
    generation = _Generation(
        model, tokenizer, template.stop_ids, settings, longest, should_stop, template.answer_ids
    )
    answers = [[Generated("")] * settings.num_return_sequences for _ in prompts]
    done = 0
    with _evaluating(model):
        for batch in generation.batches(prompts):
            if should_stop():
                break
            told = replace(
                generation,
                should_stop=_Counting(should_stop, on_progress, done, len(batch), longest, len(prompts)),
            )
            for index, own in zip(batch, told.answers([prompts[i] for i in batch]), strict=True):
                answers[index] = own
            done += len(batch)
            on_progress(done, len(prompts))
    return answers


@dataclass
class _Counting:
    """Checks after each token whether to stop, and reports progress: the fraction of the batch's tokens generated."""

    should_stop: ShouldStop
    on_progress: OnProgress
    done: int
    """Prompts answered before this batch."""
    batch: int
    longest: int
    """Token limit of an answer."""
    prompts: int
    tokens: int = 0

    def __call__(self) -> bool:
        """Return whether to stop."""
        self.tokens += 1
        self.on_progress(self.done + self.batch * min(1.0, self.tokens / self.longest), self.prompts)
        return self.should_stop()


def stream(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    messages: Sequence[Message],
    settings: GenerationSettings,
) -> Generator[str, None, bool]:
    """Yield the answer piece by piece, in whole characters; joined, the pieces equal the text from `generate`.

    Returns whether the answer was cut off, as in `Generated`. Closing the iterator, or Ctrl-C while it waits, ends
    generation within one token. If `settings.streams` is false, the first answer is yielded as one piece. Raises
    DataError as `generate_answers` does.
    """
    if not settings.streams:
        whole = generate_answers(model, tokenizer, template, [messages], settings)[0][0]
        yield whole.text
        return whole.cut
    prompt = template.prompt(messages)
    _require_rows(model, tokenizer, [prompt])
    longest = _longest_answer(model, [prompt], settings)
    cancelled, streamer = Event(), _Streamer()
    generation = _Generation(model, tokenizer, template.stop_ids, settings, longest, cancelled.is_set)
    with _evaluating(model), ThreadPoolExecutor(1, "weitiao-generate") as pool:
        answer = pool.submit(generation.ids, [prompt], streamer)
        answer.add_done_callback(lambda _: streamer.end())
        try:
            yield from _pieces(
                streamer,
                PieceDecoder(tokenizer, template.answer_ids),
                StopCutter(settings.stop),
                template.stop_ids,
            )
        finally:
            cancelled.set()
        made = answer.result()  # re-raises errors of the other thread
    return generation.answer(made[0].tolist()).cut


def _pieces(
    ids: Iterator[int], decoder: PieceDecoder, cutter: StopCutter, stop_ids: frozenset[int]
) -> Iterator[str]:
    """Yield text as ids arrive, up to a stop id or a stop text."""
    for token_id in ids:
        if token_id in stop_ids:
            break
        piece = cutter.push(decoder.push(token_id))
        if piece:
            yield piece
        if cutter.ended:
            return
    last = cutter.push(decoder.rest()) + cutter.rest()
    if last:
        yield last


class _Streamer(BaseStreamer):  # type: ignore[misc]  # transformers exports it untyped
    """Passes ids from the generating thread to the reading one."""

    def __init__(self) -> None:
        self._arrived: SimpleQueue[int | None] = SimpleQueue()
        self._past_prompt = False

    def put(self, value: Tensor) -> None:
        """Queue new ids; the first call brings the prompt and is ignored."""
        if not self._past_prompt:
            self._past_prompt = True
            return
        for token_id in value.reshape(-1).tolist():
            self._arrived.put(int(token_id))

    def end(self) -> None:
        """Signal that no more ids come."""
        self._arrived.put(None)

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        token_id = self._arrived.get()
        if token_id is None:
            raise StopIteration
        return token_id


@dataclass(frozen=True)
class _Generation:
    """A model, already in evaluation mode, and how it generates."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    settings: GenerationSettings
    longest: int
    """Token limit of an answer."""
    should_stop: ShouldStop
    kept: frozenset[int] = frozenset()
    """Special tokens that are kept in the text of an answer."""

    @property
    def _searches_and_draws(self) -> bool:
        """Whether beams are sampled: transformers does this itself, from one generator for all rows of a batch."""
        return self.settings.num_beams > 1 and self.settings.temperature > 0

    def batches(self, prompts: Sequence[Prompt]) -> Iterator[list[int]]:
        """Yield the indices of the prompts of each batch."""
        if self._searches_and_draws:
            return ([index] for index in range(len(prompts)))
        return batches(self.model, prompts)

    def answers(self, prompts: Sequence[Prompt]) -> list[list[Generated]]:
        """Return N answers to each of B prompts."""
        answers = [self.answer(ids) for ids in self.ids(prompts).tolist()]
        count = self.settings.num_return_sequences
        return [answers[start : start + count] for start in range(0, len(answers), count)]

    def answer(self, ids: list[int]) -> Generated:
        """Return the answer for the generated ids of a row."""
        kept = _up_to_stop(ids, self.stop_ids)
        whole = decoded(self.tokenizer, kept, self.kept)
        text = cut_at(whole, self.settings.stop)
        return Generated(text, cut=len(kept) >= self.longest and len(text) == len(whole))

    def ids(self, prompts: Sequence[Prompt], streamer: BaseStreamer | None = None) -> Tensor:
        """Return the generated ids (R, longest answer); ids after a stop id are arbitrary padding."""
        device = base_of(self.model).get_input_embeddings().weight.device
        draws = self.settings.temperature > 0 and not self._searches_and_draws
        rows = [
            prompt for prompt in prompts for _ in range(self.settings.num_return_sequences if draws else 1)
        ]
        padded = _left_padded(rows, min(self.stop_ids), device)
        prompt_tokens = padded["input_ids"].shape[1]
        stopping: list[StoppingCriteria] = [_Cancelled(self.should_stop)]
        if self.settings.stop:
            stopping.append(_StopText(self.tokenizer, self.settings.stop, prompt_tokens, self.kept))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.settings.seed)
            ids_RT: Tensor = self._generate_of_model()(
                **padded,
                generation_config=_generation_config(self.settings, self.longest, self.stop_ids, draws),
                logits_processor=LogitsProcessorList([Draws(self.settings, prompts)] if draws else []),
                stopping_criteria=StoppingCriteriaList(stopping),
                streamer=streamer,
            )
        return ids_RT[:, prompt_tokens:]

    def _generate_of_model(self) -> Callable[..., Tensor]:
        """Return the model's `generate`, which transformers' and PEFT's models have but nn.Module does not declare."""
        generate_ids: Callable[..., Tensor] = self.model.generate  # type: ignore[assignment]
        return generate_ids


def _up_to_stop(ids: list[int], stop_ids: frozenset[int]) -> list[int]:
    return ids[: next((at for at, token_id in enumerate(ids) if token_id in stop_ids), len(ids))]


def _left_padded(prompts: Sequence[Prompt], pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """Return input_ids (B, T) and attention_mask (B, T), padded on the left so that the answers follow the prompts."""
    width = max(len(prompt.ids) for prompt in prompts)
    ids = [[pad_id] * (width - len(prompt.ids)) + list(prompt.ids) for prompt in prompts]
    mask = [[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts]
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }


def _generation_config(
    settings: GenerationSettings, longest: int, stop_ids: frozenset[int], draws_itself: bool
) -> GenerationConfig:
    """Return transformers' config with every field set, because the model's own defaults fill fields left unset.

    With `draws_itself`, transformers decodes greedily, and `Draws` does the sampling by changing the scores.
    """
    draws = settings.temperature > 0 and not draws_itself
    return GenerationConfig(
        max_new_tokens=longest,
        min_new_tokens=min(settings.min_new_tokens, longest),
        do_sample=draws,
        temperature=settings.temperature if draws else 1.0,
        top_k=settings.top_k if draws else 50,  # transformers' default, unused without sampling
        top_p=settings.top_p,
        repetition_penalty=settings.repetition_penalty,
        num_beams=settings.num_beams,
        num_return_sequences=1 if draws_itself else settings.num_return_sequences,
        early_stopping=False,
        length_penalty=1.0,
        eos_token_id=sorted(stop_ids),
        # Padding is masked before an answer and cut off after it, so any id works.
        pad_token_id=min(stop_ids),
        use_cache=True,
        return_dict_in_generate=False,
    )


def _require_rows(model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> None:
    rows = base_of(model).get_input_embeddings().weight.shape[0]
    for prompt in prompts:
        require_rows(tokenizer, rows, prompt.ids, "the conversation")


def _longest_answer(model: nn.Module, prompts: Sequence[Prompt], settings: GenerationSettings) -> int:
    """Return the token limit of an answer; raises DataError if a prompt leaves no room in the context."""
    context = context_tokens(base_of(model).config)
    prompt_tokens = max((len(prompt.ids) for prompt in prompts), default=0)
    if context is None:
        return settings.max_new_tokens
    context -= model.virtual_tokens if isinstance(model, PromptModel) else 0
    if prompt_tokens >= context:
        raise DataError(
            Problem(
                "the conversation is longer than the model's context",
                f"{prompt_tokens} tokens",
                f"fewer than {context} tokens",
                "a shorter question, or /reset in a chat",
            )
        )
    return min(settings.max_new_tokens, context - prompt_tokens)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode for the context; restore each module's mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Cancelled(StoppingCriteria):  # type: ignore[misc]  # transformers exports it untyped
    """Ends all answers when `should_stop` returns True."""

    def __init__(self, should_stop: ShouldStop) -> None:
        self._should_stop = should_stop

    def __call__(self, input_ids: Tensor, scores: object, **_: Any) -> Tensor:  # noqa: ANN401
        return torch.full((input_ids.shape[0],), self._should_stop(), device=input_ids.device)


class _StopText(StoppingCriteria):  # type: ignore[misc]  # transformers exports it untyped
    """Ends an answer when a stop text appears in its last tokens."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[str],
        prompt_tokens: int,
        kept: frozenset[int] = frozenset(),
    ) -> None:
        self._tokenizer, self._stops, self._prompt_tokens, self._kept = tokenizer, stops, prompt_tokens, kept
        # A token has at least one byte, except special tokens, of which there are few.
        self._window = max(len(stop.encode("utf-8")) for stop in stops) + 16

    def __call__(self, input_ids: Tensor, scores: object, **_: Any) -> Tensor:  # noqa: ANN401
        answers_RT = input_ids[:, max(self._prompt_tokens, input_ids.shape[1] - self._window) :]
        texts = [decoded(self._tokenizer, ids, self._kept) for ids in answers_RT.tolist()]
        ended = [any(stop in text for stop in self._stops) for text in texts]
        return torch.tensor(ended, device=input_ids.device)
