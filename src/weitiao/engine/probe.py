"""Short probes, before the first step, of whether a model gives exact results with packing and shared prefixes.

Shapes: K trained targets, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..core.errors import ModelError, Problem
from ..data.batching.packing import make_pack
from ..data.batching.prefix_tree import SHORTEST_SHARED
from ..data.example import Example
from ..models.anatomy import base_of
from .forward import Forward, ForwardOptions
from .memory.oom import is_out_of_memory
from .optim.precision import Precision

FP32_TOLERANCE = 1e-4
"""Largest allowed difference between packed and single-example logits, as a share of their standard
deviation: allows rounding, detects a leak between examples."""
HALF_TOLERANCE = 0.1
"""The same for 16 bits, as a root mean square. In bf16, two attention kernels differ by 0.03 on the logits of
SmolLM2-135M (single logits by 0.17); if examples see each other, the difference is 0.5 or more."""
LEAK_TOLERANCE = 1e-3
"""Largest allowed change of an example's logits in 16 bits when its neighbour in the pack changes, as a root mean
square. The same kernels compute both, so only a leak could change them."""
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What an architecture's code may raise when it does not support a method's changes to the model."""
SEEN_IN_LONG_ROWS = (
    "attention_chunk_size",
    "index_topk",
    "index_topk_blocks",
    "indexer_budget",
    "compress_rates",
    "keep_window_size",
)
"""Config keys of chunked attention (Llama 4), and of attention that, beyond some length, reads only the rows with the
highest scores (DeepSeek-V3.2 and later, Doge): padding and other examples would compete for these rows."""


def one_by_one(model: nn.Module, precision: Precision) -> Forward:
    """Return an unpacked forward, one example at a time; raises ModelError if the model fails on a probe."""
    base = base_of(model)
    was_training = model.training
    model.eval()
    try:
        forward = Forward.on(model, precision, ForwardOptions(packs=False, shares=False))
        example = probe_examples(base, alike=False)[:1]
        probe(forward, example)
        model.train()  # Reformer accepts only one sequence length in training mode
        with torch.random.fork_rng([forward.device] if forward.device.type == "cuda" else []):
            probe(forward, example)
    except FAILURES as error:
        if is_out_of_memory(error):
            raise
        what = "this architecture does not run with what the method adds to it"
        said = f"{type(base).__name__}: {type(error).__name__}: {error}".splitlines()[0]
        remedy = "method.name=lora, or another release of transformers"
        raise ModelError(Problem(what, said, "logits for a text of five tokens", remedy)) from error
    finally:
        model.train(was_training)
    return forward


def choose_forward(model: nn.Module, precision: Precision) -> Forward:
    """Return a packed forward if a probe shows that examples stay independent, else one example at a time.

    The probe compares the logits of short examples in one pack with those of each alone. They differ for a model that
    bypasses the packed attention or carries state from token to token (convolutions, recurrences). The packed attention
    rejects models that need more of it (sinks, capped scores). A second probe, on examples with a common prefix,
    decides whether packs share prefixes.
    """
    base = base_of(model)
    chosen = one_by_one(model, precision)
    takes_attention = base._supports_attention_backend and base._can_set_attn_implementation()
    if not takes_attention or depends_on_length(base):
        return chosen
    was_training = model.training
    model.eval()
    try:
        for shares in (False, True):
            forward = chosen.with_options(packs=True, shares=shares)
            examples = probe_examples(base, alike=shares)
            exact = computes_exactly(base, precision)
            if not same_logits(probe(forward, examples), probe(chosen, examples), exact):
                break
            if not exact and not _keeps_apart(forward, examples):
                break
            chosen = forward
    except (TypeError, ValueError, KeyError):  # e.g. the model does not pass the layout on to its attention
        pass
    finally:
        model.train(was_training)
    return chosen


def depends_on_length(base: PreTrainedModel) -> bool:
    """Return whether results depend on length in ways a short probe cannot see: chunked or sparse attention, or rotary
    embeddings scaled by the longest example of the batch."""
    config = base.config.get_text_config().to_dict()
    ropes = config.get("rope_parameters") or {}
    each = [ropes, *(rope for rope in ropes.values() if isinstance(rope, dict))]
    scaled = any(rope.get("rope_type") in ("dynamic", "longrope") for rope in each)
    return scaled or any(config.get(name) for name in SEEN_IN_LONG_ROWS)


def computes_exactly(base: PreTrainedModel, precision: Precision) -> bool:
    """Return whether compute and all parameters are fp32; 8- and 16-bit numbers round more."""
    return precision.compute is None and all(p.dtype is torch.float32 for p in base.parameters())


def _keeps_apart(forward: Forward, examples: Sequence[Example]) -> bool:
    """Return whether an example's logits in a pack stay the same when another example changes.

    In 16 bits, comparing with the example alone is coarse, because other kernels may compute it; this check is precise.
    """
    vocabulary = base_of(forward.model).get_input_embeddings().weight.shape[0]
    for index, example in enumerate(examples):
        # Only trained ids change; they come after the shared prefix.
        (sequence,) = example.sequences
        others = tuple(
            (token + (weight > 0)) % vocabulary
            for token, weight in zip(sequence.ids, sequence.weights, strict=True)
        )
        silent = (0.0,) * len(others)
        before, after = (
            probe(forward, [*examples[:index], Example.of(ids, silent, "<probe>"), *examples[index + 1 :]])
            for ids in (sequence.ids, others)
        )
        if mean_distance(before, after) > LEAK_TOLERANCE:
            return False
    return True


def probe_examples(base: PreTrainedModel, alike: bool) -> list[Example]:
    """Return two short examples; if `alike`, they share a prefix and only what follows is trained."""
    vocabulary = base.get_input_embeddings().weight.shape[0]
    first, second = (probe_ids(n, vocabulary) for n in (5, 7))
    header = probe_ids(SHORTEST_SHARED, vocabulary) if alike else ()
    return [
        Example.of(header + ids, (0.0,) * len(header) + (1.0,) * len(ids), "<probe>")
        for ids in (first, second)
    ]


@torch.no_grad()
def probe(forward: Forward, examples: Sequence[Example]) -> Tensor:
    """Return the logits (K, V) of examples run as one pack."""
    with forward.attention():
        outputs = forward.outputs(make_pack(examples, forward.options.shares))
    return outputs.logits_PV()[outputs.rows_K].float()


def probe_ids(length: int, vocabulary: int) -> tuple[int, ...]:
    """Return ids spread over the vocabulary, different for each length."""
    return tuple((7919 * (i + length)) % vocabulary for i in range(length))


def same_logits(found_KV: Tensor, wanted_KV: Tensor, exact: bool) -> bool:
    """Return whether two sets of logits agree up to rounding: that of fp32 if `exact`, else of 16 bits."""
    if not exact:
        return mean_distance(found_KV, wanted_KV) <= HALF_TOLERANCE
    return float((found_KV - wanted_KV).abs().max()) <= FP32_TOLERANCE * _spread(wanted_KV)


def mean_distance(found_KV: Tensor, wanted_KV: Tensor) -> float:
    """Return the root mean square of the differences, as a share of the logits' standard deviation."""
    return float((found_KV - wanted_KV).square().mean().sqrt()) / _spread(wanted_KV)


def _spread(logits_KV: Tensor) -> float:
    return float(logits_KV.std()) or 1.0
