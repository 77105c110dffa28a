"""Which way of going through a model is exact for it: found by short probes before the first step.

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
"""How far any of a pack's logits may lie from the examples' own, as a share of their spread: rounding, but no leak."""
HALF_TOLERANCE = 0.1
"""The same in 16 bits, root mean square: two ways to compute attention take the logits of SmolLM2-135M 0.03 apart in
bf16, single ones 0.17; of examples that see each other they lie 0.5 and more apart."""
LEAK_TOLERANCE = 1e-3
"""How far the logits of an example may move in 16 bits when its neighbour is another, root mean square. The same
kernels compute both, so nothing else moves them."""
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
"""What an architecture's code raises where a method has changed more of it than it bears."""
SEEN_IN_LONG_ROWS = (
    "attention_chunk_size",
    "index_topk",
    "index_topk_blocks",
    "indexer_budget",
    "compress_rates",
    "keep_window_size",
)
"""Settings of attention that goes in chunks (Llama 4), and of attention that from some length on only reads the rows
that score highest, of which padding and other examples would take places (DeepSeek-V3.2 and those after it, Doge)."""


def one_by_one(model: nn.Module, precision: Precision) -> Forward:
    """Return the forward of one example at a time; raises ModelError where the model fails on the first."""
    base = base_of(model)
    was_training = model.training
    model.eval()
    try:
        forward = Forward.on(model, precision, ForwardOptions(packs=False, shares=False))
        example = probe_examples(base, alike=False)[:1]
        probe(forward, example)
        model.train()  # in which Reformer takes rows of one length only
        with torch.random.fork_rng([forward.device] if forward.device.type == "cuda" else []):
            probe(forward, example)
    except FAILURES as error:
        if is_out_of_memory(error):
            raise
        what = "this architecture does not run with what the method puts into it"
        said = f"{type(base).__name__}: {type(error).__name__}: {error}".splitlines()[0]
        remedy = "method.name=lora, or another release of transformers"
        raise ModelError(Problem(what, said, "logits for a text of five tokens", remedy)) from error
    finally:
        model.train(was_training)
    return forward


def choose_forward(model: nn.Module, precision: Precision) -> Forward:
    """Return a packed forward where a probe shows that the model keeps examples apart, else one example at a time.

    Short examples are run in one pack and alone. A model whose attention does not take part, or that carries a
    state from token to token (convolutions, recurrences), gives other logits in a pack; one whose attention does more
    (sinks, capped scores) is refused by the packs' attention. What examples have in common is shared where the same
    is found of examples that begin alike.
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
    except (TypeError, ValueError, KeyError):  # the model's forward does not pass the pack's layout on
        pass
    finally:
        model.train(was_training)
    return chosen


def depends_on_length(base: PreTrainedModel) -> bool:
    """Return what a short probe cannot see: whether attention goes in chunks or picks some of the rows before, and
    whether positions are scaled by the longest example that goes through."""
    config = base.config.get_text_config().to_dict()
    ropes = config.get("rope_parameters") or {}
    each = [ropes, *(rope for rope in ropes.values() if isinstance(rope, dict))]
    scaled = any(rope.get("rope_type") in ("dynamic", "longrope") for rope in each)
    return scaled or any(config.get(name) for name in SEEN_IN_LONG_ROWS)


def computes_exactly(base: PreTrainedModel, precision: Precision) -> bool:
    """Return whether everything is in fp32; 8- and 16-bit numbers round more."""
    return precision.compute is None and all(p.dtype is torch.float32 for p in base.parameters())


def _keeps_apart(forward: Forward, examples: Sequence[Example]) -> bool:
    """Return whether an example's logits in a pack stay the same when another one changes.

    In 16 bits the comparison with an example alone is coarse, as other kernels may compute it; this one is not.
    """
    vocabulary = base_of(forward.model).get_input_embeddings().weight.shape[0]
    for index, example in enumerate(examples):
        # Only trained ids change, which come after all that is shared.
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
    """Return two short examples; where they begin `alike`, only what follows is trained."""
    vocabulary = base.get_input_embeddings().weight.shape[0]
    first, second = (probe_ids(n, vocabulary) for n in (5, 7))
    header = probe_ids(SHORTEST_SHARED, vocabulary) if alike else ()
    return [
        Example.of(header + ids, (0.0,) * len(header) + (1.0,) * len(ids), "<probe>")
        for ids in (first, second)
    ]


@torch.no_grad()
def probe(forward: Forward, examples: Sequence[Example]) -> Tensor:
    """Return the logits (K, V) for some examples in one pack."""
    with forward.attention():
        outputs = forward.outputs(make_pack(examples, forward.options.shares))
    return outputs.logits_PV()[outputs.rows_K].float()


def probe_ids(length: int, vocabulary: int) -> tuple[int, ...]:
    """Return ids spread over a vocabulary, other ones for each length."""
    return tuple((7919 * (i + length)) % vocabulary for i in range(length))


def same_logits(found_KV: Tensor, wanted_KV: Tensor, exact: bool) -> bool:
    """Return whether two sets of logits are the same but for rounding, that of fp32 or of 16 bits."""
    if not exact:
        return mean_distance(found_KV, wanted_KV) <= HALF_TOLERANCE
    return float((found_KV - wanted_KV).abs().max()) <= FP32_TOLERANCE * _spread(wanted_KV)


def mean_distance(found_KV: Tensor, wanted_KV: Tensor) -> float:
    """Return the root mean square of the differences, as a share of the logits' spread."""
    return float((found_KV - wanted_KV).square().mean().sqrt()) / _spread(wanted_KV)


def _spread(logits_KV: Tensor) -> float:
    return float(logits_KV.std()) or 1.0
