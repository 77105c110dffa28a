"""Batches prompts for generation: with left padding where that changes no answer, else by equal length.

Shapes: B rows, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from ..engine.optim.precision import Precision
from ..engine.probe import (
    LEAK_TOLERANCE,
    computes_exactly,
    depends_on_length,
    mean_distance,
    probe_ids,
    same_logits,
)
from ..methods._peft.prompt import PromptModel
from ..models.anatomy import base_of

if TYPE_CHECKING:
    from transformers.generation import GenerateDecoderOnlyOutput

    from ..data.conversation import Prompt

BATCH_PROMPTS = 8
PROBED_TOKENS = 3
SHORT, LONG = 5, 9
"""Tokens of the two prompts of the probe."""


def batches(model: nn.Module, prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Yield the indices of the prompts of each batch, short prompts first.

    The model is in evaluation mode. It is probed for padding only if prompts of different lengths could share a batch.
    """
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
    chunks = [by_length[start : start + BATCH_PROMPTS] for start in range(0, len(by_length), BATCH_PROMPTS)]
    mixed = [len({len(prompts[index].ids) for index in chunk}) > 1 for chunk in chunks]
    if not any(mixed) or takes_padding(model):
        yield from chunks
        return
    for length in sorted({len(prompt.ids) for prompt in prompts}):
        same = [index for index in by_length if len(prompts[index].ids) == length]
        yield from (same[start : start + BATCH_PROMPTS] for start in range(0, len(same), BATCH_PROMPTS))


def takes_padding(model: nn.Module) -> bool:
    """Return whether a padded prompt is answered as without padding, by rule where a short probe cannot show it.

    Padding between virtual tokens and a prompt takes up places of a sliding window. Chunked attention, and positions
    scaled by the longest row, are affected by padding or neighbours only in long rows.
    """
    base = base_of(model)
    if isinstance(model, PromptModel) and model.virtual_tokens:
        return False
    if depends_on_length(base):
        return False
    try:
        return _probe_agrees(model)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError):  # generation fails on padded rows
        return False


def _probe_agrees(model: nn.Module) -> bool:
    """Return whether the shorter of two prompts is answered the same with padding as alone.

    In 16 bits the short prompt alone may use other kernels, so that comparison is coarse; a second, strict one changes
    the ids of the masked padding.
    """
    base = base_of(model)
    exact = computes_exactly(base, Precision(None))
    vocabulary = base.get_input_embeddings().weight.shape[0]
    first, other = (_behind_padding(model, pad, vocabulary) for pad in (0, vocabulary // 2))
    alone = _alone(model, vocabulary)
    steps = _steps_alike(first, alone)
    agrees = same_logits(_row(first, steps), _row(alone, steps), exact)
    steps = _steps_alike(first, other)
    return agrees and mean_distance(_row(other, steps), _row(first, steps)) <= LEAK_TOLERANCE


def _behind_padding(model: nn.Module, pad: int, vocabulary: int) -> GenerateDecoderOnlyOutput:
    short, long = probe_ids(SHORT, vocabulary), probe_ids(LONG, vocabulary)
    filler = (pad,) * (LONG - SHORT)
    return _generated(model, [filler + short, long], [[0] * len(filler) + [1] * SHORT, [1] * LONG])


def _alone(model: nn.Module, vocabulary: int) -> GenerateDecoderOnlyOutput:
    return _generated(model, [probe_ids(SHORT, vocabulary)], [[1] * SHORT])


def _generated(
    model: nn.Module, ids: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]
) -> GenerateDecoderOnlyOutput:
    """Return what a model generates for the rows, with the logits (B, V) of each token."""
    device = base_of(model).get_input_embeddings().weight.device
    generate: Callable[..., GenerateDecoderOnlyOutput] = model.generate  # type: ignore[assignment]
    return generate(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        generation_config=GenerationConfig(
            max_new_tokens=PROBED_TOKENS,
            min_new_tokens=PROBED_TOKENS,
            do_sample=False,
            pad_token_id=0,
            use_cache=True,
            output_logits=True,
            return_dict_in_generate=True,
        ),
    )


def _steps_alike(one: GenerateDecoderOnlyOutput, other: GenerateDecoderOnlyOutput) -> int:
    """Return the number of comparable steps: up to and including the first where the first rows' tokens differ."""
    pairs = zip(one.sequences[0, -PROBED_TOKENS:], other.sequences[0, -PROBED_TOKENS:], strict=True)
    same = [bool(a == b) for a, b in pairs]
    return same.index(False) + 1 if False in same else PROBED_TOKENS


def _row(output: GenerateDecoderOnlyOutput, steps: int) -> Tensor:
    """Return the first row's logits (steps, V)."""
    return torch.stack([logits_BV[0].float() for logits_BV in output.logits[:steps]])
